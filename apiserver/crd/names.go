// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/apiextensions"
)

// compareText compares pairs in order.
func compareText(pairs ...string) int {
	for i := 0; i+1 < len(pairs); i += 2 {
		if d := cmp.Compare(pairs[i], pairs[i+1]); d != 0 {
			return d
		}
	}
	return 0
}

// judgeNames accepts those of the requested names that no other definition of the group has, and sets the NamesAccepted condition. Names that
// are accepted already stay.
func (c *Controller) judgeNames(crd *apiextensionsv1.CustomResourceDefinition) {
	resources, kinds := map[string]bool{}, map[string]bool{}
	take := func(n *apiextensionsv1.CustomResourceDefinitionNames) {
		for _, name := range append([]string{n.Plural, n.Singular}, n.ShortNames...) {
			resources[name] = name != ""
		}
		kinds[n.Kind], kinds[n.ListKind] = n.Kind != "", n.ListKind != ""
	}
	for _, other := range c.informer.List("") {
		if other.Spec.Group == crd.Spec.Group && other.Name != crd.Name {
			take(&other.Status.AcceptedNames)
		}
	}
	for name, s := range c.served { // whose status the informer may not have seen yet
		if s.crd.Spec.Group == crd.Spec.Group && name != crd.Name {
			take(&s.names)
		}
	}
	acceptNames(crd, resources, kinds)
}

func acceptNames(crd *apiextensionsv1.CustomResourceDefinition, resources, kinds map[string]bool) {
	want, have := crd.Spec.Names, crd.Status.AcceptedNames
	next := have
	cond := condition(apiextensionsv1.NamesAccepted, apiextensionsv1.ConditionTrue, "NoConflicts", "no conflicts found")
	refuse := func(reason, message string) {
		cond = condition(apiextensionsv1.NamesAccepted, apiextensionsv1.ConditionFalse, reason, message)
	}
	one := func(requested string, accepted *string, used map[string]bool, reason string) {
		if requested != *accepted && used[requested] {
			refuse(reason, fmt.Sprintf("%q is already in use", requested))
			return
		}
		*accepted = requested
	}
	one(want.Plural, &next.Plural, resources, "PluralConflict")
	one(want.Singular, &next.Singular, resources, "SingularConflict")
	var taken []string
	for _, short := range want.ShortNames {
		if resources[short] && !contains(have.ShortNames, short) {
			taken = append(taken, fmt.Sprintf("%q is already in use", short))
		}
	}
	switch len(taken) {
	case 0:
		next.ShortNames = want.ShortNames
	case 1:
		refuse("ShortNamesConflict", taken[0])
	default:
		refuse("ShortNamesConflict", "["+strings.Join(taken, ", ")+"]")
	}
	one(want.Kind, &next.Kind, kinds, "KindConflict")
	one(want.ListKind, &next.ListKind, kinds, "ListKindConflict")
	next.Categories = want.Categories
	crd.Status.AcceptedNames = next
	apihelpers.SetCRDCondition(crd, cond)
}

func contains(list []string, item string) bool {
	return slices.Contains(list, item)
}

// mayBeUnstructural spares most definitions the work: their schemas were judged when they were written, and validation lets unstructural ones in
// only where unknown fields are preserved.
func mayBeUnstructural(crd *apiextensionsv1.CustomResourceDefinition) bool {
	return crd.Spec.PreserveUnknownFields || apihelpers.FindCRDCondition(crd, apiextensionsv1.NonStructuralSchema) != nil
}

// judgeSchemas sets the NonStructuralSchema condition when a schema is not structural, and takes it away when all are.
func judgeSchemas(crd *apiextensionsv1.CustomResourceDefinition) {
	var texts []string
	if crd.Spec.PreserveUnknownFields {
		texts = append(texts, field.Invalid(field.NewPath("spec", "preserveUnknownFields"), true, "must be false").Error())
	}
	for i := range crd.Spec.Versions {
		v := &crd.Spec.Versions[i]
		if v.Schema == nil {
			continue
		}
		structural, err := apiextensions.Structural(v.Schema.OpenAPIV3Schema)
		if err != nil {
			texts = append(texts, fmt.Sprintf("failed to check validation schema for version %s: %v", v.Name, err))
			continue
		}
		path := field.NewPath("spec", "versions").Index(i).Child("schema", "openAPIV3Schema")
		for _, e := range structuralschema.ValidateStructural(path, structural) {
			texts = append(texts, e.Error())
		}
	}
	if len(texts) == 0 {
		apihelpers.RemoveCRDCondition(crd, apiextensionsv1.NonStructuralSchema)
		return
	}
	text := texts[0]
	if len(texts) > 1 {
		text = "[" + strings.Join(texts, ", ") + "]"
	}
	apihelpers.SetCRDCondition(crd, condition(apiextensionsv1.NonStructuralSchema, apiextensionsv1.ConditionTrue, "Violations", text))
}

// judgeApproval sets the condition of groups that belong to Kubernetes: they need an annotation that names their approval.
func judgeApproval(crd *apiextensionsv1.CustomResourceDefinition) {
	if !apihelpers.IsProtectedCommunityGroup(crd.Spec.Group) {
		return
	}
	state, reason := apihelpers.GetAPIApprovalState(crd.Annotations)
	cond := apiextensionsv1.CustomResourceDefinitionCondition{Type: apiextensionsv1.KubernetesAPIApprovalPolicyConformant, Message: reason}
	switch state {
	case apihelpers.APIApproved:
		cond.Status, cond.Reason = apiextensionsv1.ConditionTrue, "ApprovedAnnotation"
	case apihelpers.APIApprovalBypassed:
		cond.Status, cond.Reason = apiextensionsv1.ConditionFalse, "UnapprovedAnnotation"
	case apihelpers.APIApprovalInvalid:
		cond.Status, cond.Reason = apiextensionsv1.ConditionFalse, "InvalidAnnotation"
	case apihelpers.APIApprovalMissing:
		cond.Status, cond.Reason = apiextensionsv1.ConditionFalse, "MissingAnnotation"
	default:
		cond.Status, cond.Reason = apiextensionsv1.ConditionUnknown, "UnknownAnnotation"
	}
	apihelpers.SetCRDCondition(crd, cond)
}
