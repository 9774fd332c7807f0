// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
)

// ServedVersion returns the version to reach the objects of a definition at: the preferred one while it is served, else the one
// that they are stored in, else any. Empty when none is served: the definition is not established, or serves nothing now.
func ServedVersion(crd *apiextensionsv1.CustomResourceDefinition, preferred string) string {
	established := slices.ContainsFunc(crd.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
	})
	if !established {
		return ""
	}
	version := ""
	for _, v := range crd.Spec.Versions {
		switch {
		case !v.Served:
		case v.Name == preferred:
			return v.Name
		case v.Storage || version == "":
			version = v.Name
		}
	}
	return version
}

// Definitions returns the informer of custom resource definitions, which has their outlines: schemas are most of a definition, and no loop reads them.
func Definitions(informers *client.Informers) *client.Informer[*apiextensionsv1.CustomResourceDefinition] {
	return client.TrimmedInformer(informers, client.Of[*apiextensionsv1.CustomResourceDefinition](informers.Client()), Outline)
}

// Outline returns what loops need to know of a definition, in an object of its own: which one it is and whether it is going, its group, scope and names, its versions
// but for their schemas and columns, and which conditions it has and which names were accepted.
func Outline(crd *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.CustomResourceDefinition {
	out := &outline{}
	out.ObjectMeta = metav1.ObjectMeta{
		Name: crd.Name, UID: crd.UID, ResourceVersion: crd.ResourceVersion, Generation: crd.Generation, DeletionTimestamp: crd.DeletionTimestamp,
	}
	out.Spec = apiextensionsv1.CustomResourceDefinitionSpec{
		Group: crd.Spec.Group, Scope: crd.Spec.Scope, Names: ownNames(&crd.Spec.Names), PreserveUnknownFields: crd.Spec.PreserveUnknownFields,
		Versions: append(out.versions[:0], crd.Spec.Versions...),
	}
	for i := range out.Spec.Versions {
		v := &out.Spec.Versions[i]
		v.Schema, v.AdditionalPrinterColumns = nil, nil
		if s := v.Subresources; s != nil && s.Status != nil && s.Scale == nil {
			v.Subresources = onlyStatus
		}
	}
	out.Status.Conditions = out.conditions[:0]
	for _, c := range crd.Status.Conditions {
		out.Status.Conditions = append(out.Status.Conditions, apiextensionsv1.CustomResourceDefinitionCondition{Type: c.Type, Status: c.Status})
	}
	same := equal.Semantic(&crd.Spec.Names, &crd.Status.AcceptedNames)
	if !same {
		out.Status.AcceptedNames = ownNames(&crd.Status.AcceptedNames)
	}
	out.ownTexts()
	if same {
		out.Status.AcceptedNames = out.Spec.Names
	}
	return &out.CustomResourceDefinition
}

// outline is a definition in few objects, which refer to nothing of the whole one: they stay for as long as it does, and what is small and stays keeps the
// memory around it from being used for what is large. versions and conditions are room for as many as most definitions have.
type outline struct {
	apiextensionsv1.CustomResourceDefinition
	versions   [2]apiextensionsv1.CustomResourceDefinitionVersion
	conditions [2]apiextensionsv1.CustomResourceDefinitionCondition
}

// onlyStatus are the subresources of most versions.
var onlyStatus = &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}}

// ownNames returns names with lists of their own, in one array.
func ownNames(names *apiextensionsv1.CustomResourceDefinitionNames) apiextensionsv1.CustomResourceDefinitionNames {
	out := *names
	all := slices.Concat(out.ShortNames, out.Categories)
	if n := len(out.ShortNames); n > 0 {
		out.ShortNames = all[:n:n]
	}
	if n := len(out.ShortNames); len(out.Categories) > 0 {
		out.Categories = all[n:]
	}
	return out
}

// ownTexts puts all texts of an outline into one.
func (o *outline) ownTexts() {
	size := 0
	o.texts(func(text *string) { size += len(*text) })
	var all strings.Builder
	all.Grow(size)
	o.texts(func(text *string) {
		from := all.Len()
		all.WriteString(*text)
		*text = all.String()[from:]
	})
}

// texts calls fn with each text of an outline but those that hardly any has.
func (o *outline) texts(fn func(text *string)) {
	fn(&o.Name)
	fn((*string)(&o.UID))
	fn(&o.ResourceVersion)
	fn(&o.Spec.Group)
	fn((*string)(&o.Spec.Scope))
	for _, names := range []*apiextensionsv1.CustomResourceDefinitionNames{&o.Spec.Names, &o.Status.AcceptedNames} {
		fn(&names.Plural)
		fn(&names.Singular)
		fn(&names.Kind)
		fn(&names.ListKind)
		for _, list := range [][]string{names.ShortNames, names.Categories} {
			for i := range list {
				fn(&list[i])
			}
		}
	}
	for i := range o.Spec.Versions {
		fn(&o.Spec.Versions[i].Name)
	}
	for i := range o.Status.Conditions {
		fn((*string)(&o.Status.Conditions[i].Type))
		fn((*string)(&o.Status.Conditions[i].Status))
	}
}
