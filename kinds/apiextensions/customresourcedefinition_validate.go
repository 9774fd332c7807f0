// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiextensions

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

// maxDeprecationWarning bounds the text that clients of a deprecated version are shown.
const maxDeprecationWarning = 256

// Schema is the schema of a version, of which validation has found nothing wrong.
type Schema struct {
	// Path is what errors call it: a field of the spec where all versions have the same schema, which then is that of the first of them.
	Path *field.Path
	// Structural is the form that pruning, defaulting and validation work on.
	Structural *structuralschema.Structural
}

// Validate returns what is wrong with a definition that is new, or replaces old, and its schemas: rules and defaults in them are still to be judged.
func Validate(d, old *apiextensionsv1.CustomResourceDefinition) ([]Schema, field.ErrorList) {
	var errs field.ErrorList
	if old == nil {
		errs = validateName(d)
	}
	path := field.NewPath("spec")
	schemas, found := validateSpec(&d.Spec, rulesFor(old), path)
	errs = append(errs, found...)
	if old != nil {
		errs = append(errs, validateChange(&d.Spec, old, path)...)
	}
	return schemas, append(errs, validateCommon(d, old)...)
}

// validateChange holds what can't change.
func validateChange(spec *apiextensionsv1.CustomResourceDefinitionSpec, old *apiextensionsv1.CustomResourceDefinition, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if conditionTrue(old, apiextensionsv1.Established) {
		errs = append(errs, check.Immutable(spec.Scope, old.Spec.Scope, path.Child("scope"))...)
		errs = append(errs, check.Immutable(spec.Names.Kind, old.Spec.Names.Kind, path.Child("names", "kind"))...)
	}
	errs = append(errs, check.Immutable(spec.Group, old.Spec.Group, path.Child("group"))...)
	return append(errs, check.Immutable(spec.Names.Plural, old.Spec.Names.Plural, path.Child("names", "plural"))...)
}

func validateStatus(_ kinds.Request, new, _ *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	return validateNames(&new.Status.AcceptedNames, field.NewPath("status", "acceptedNames"))
}

func conditionTrue(d *apiextensionsv1.CustomResourceDefinition, t apiextensionsv1.CustomResourceDefinitionConditionType) bool {
	return slices.ContainsFunc(d.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == t && c.Status == apiextensionsv1.ConditionTrue
	})
}

// validateName requires the name that plural and group make: it is how a resource has one definition.
func validateName(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	if d.Name == "" || d.Name == d.Spec.Names.Plural+"."+d.Spec.Group {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata", "name"), d.Name, `must be spec.names.plural+"."+spec.group`)}
}

// validateCommon judges what does not lie in spec; old is nil on create.
func validateCommon(d, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	path := field.NewPath("status")
	errs := validateNames(&d.Status.AcceptedNames, path.Child("acceptedNames"))
	errs = append(errs, validateStoredVersions(d, path.Child("storedVersions"))...)
	errs = append(errs, validateApproval(d, old)...)
	if d.Spec.PreserveUnknownFields && (old == nil || !old.Spec.PreserveUnknownFields) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "preserveUnknownFields"), true,
			"cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"))
	}
	return errs
}

func validateStoredVersions(d *apiextensionsv1.CustomResourceDefinition, path *field.Path) field.ErrorList {
	stored := d.Status.StoredVersions
	if len(stored) == 0 {
		return field.ErrorList{field.Invalid(path, stored, "must have at least one stored version")}
	}
	var errs field.ErrorList
	pending := map[string]bool{}
	for _, v := range stored {
		pending[v] = true
	}
	for _, v := range d.Spec.Versions {
		if v.Storage && !pending[v.Name] {
			errs = append(errs, field.Invalid(path, stored, "must have the storage version "+v.Name))
		}
		delete(pending, v.Name)
	}
	for i, v := range stored {
		if pending[v] {
			errs = append(errs, field.Invalid(path.Index(i), v, fmt.Sprintf("missing from spec.versions; %[1]s was previously a storage version, "+
				"and must remain in spec.versions until a storage migration ensures no data remains persisted in %[1]s and removes %[1]s from status.storedVersions", v)))
		}
	}
	return errs
}

// validateApproval guards the groups of the Kubernetes project: a definition there must name the change that approved it, or
// say that it is not approved.
func validateApproval(d, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	group := d.Spec.Group
	if group != "k8s.io" && group != "kubernetes.io" && !strings.HasSuffix(group, ".k8s.io") && !strings.HasSuffix(group, ".kubernetes.io") {
		return nil
	}
	const key = apiextensionsv1.KubeAPIApprovedAnnotation
	value := d.Annotations[key]
	if old != nil && old.Annotations[key] == value {
		return nil
	}
	path := field.NewPath("metadata", "annotations").Key(key)
	switch {
	case value == "":
		return field.ErrorList{field.Required(path, "protected groups must have approval annotation \""+key+
			"\", see https://github.com/kubernetes/enhancements/pull/1111")}
	case strings.HasPrefix(value, "unapproved"):
		return nil
	case !isURL(value):
		return field.ErrorList{field.Invalid(path, value, "protected groups must have approval annotation \""+key+
			"\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111")}
	}
	return nil
}

func validateSpec(spec *apiextensionsv1.CustomResourceDefinitionSpec, r rules, path *field.Path) ([]Schema, field.ErrorList) {
	errs := validateGroup(spec.Group, path.Child("group"))
	errs = append(errs, check.OneOf(spec.Scope, path.Child("scope"), apiextensionsv1.ClusterScoped, apiextensionsv1.NamespaceScoped)...)
	shared := sharedParts(spec.Versions)
	errs = append(errs, requireSchemas(spec.Versions, r, path.Child("versions"))...)
	storages, seen, unique := 0, map[string]bool{}, true
	var schemas []Schema
	judge := func(v *apiextensionsv1.CustomResourceDefinitionVersion, at places) {
		schema, found := validateParts(v, at, spec.PreserveUnknownFields, r)
		errs = append(errs, found...)
		if schema != nil {
			schemas = append(schemas, *schema)
		}
	}
	for i := range spec.Versions {
		v, at := &spec.Versions[i], path.Child("versions").Index(i)
		if v.Storage {
			storages++
		}
		unique = unique && !seen[v.Name]
		seen[v.Name] = true
		if msgs := utilvalidation.IsDNS1035Label(v.Name); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at.Child("name"), v.Name, strings.Join(msgs, ",")))
			if i == 0 && v.Name != "" {
				errs = append(errs, field.Invalid(path.Child("version"), v.Name, strings.Join(msgs, ",")))
			}
		}
		errs = append(errs, validateDeprecation(v.Deprecated, v.DeprecationWarning, at.Child("deprecationWarning"))...)
		judge(v, shared.own(at))
	}
	if len(spec.Versions) > 0 {
		judge(&spec.Versions[0], shared.common(path))
	}
	if !unique {
		errs = append(errs, field.Invalid(path.Child("versions"), spec.Versions, "must contain unique version names"))
	}
	if storages != 1 {
		errs = append(errs, field.Invalid(path.Child("versions"), spec.Versions, "must have exactly one version marked as storage version"))
	}
	names := path.Child("names")
	for _, n := range []struct{ field, value string }{
		{"plural", spec.Names.Plural},
		{"singular", spec.Names.Singular},
		{"kind", spec.Names.Kind},
		{"listKind", spec.Names.ListKind},
	} {
		if n.value == "" {
			errs = append(errs, field.Required(names.Child(n.field), ""))
		}
	}
	errs = append(errs, validateNames(&spec.Names, names)...)
	if spec.Conversion != nil && spec.Conversion.Strategy != apiextensionsv1.NoneConverter && spec.PreserveUnknownFields {
		errs = append(errs, field.Invalid(path.Child("conversion", "strategy"), spec.Conversion.Strategy, "must be None if spec.preserveUnknownFields is true"))
	}
	return schemas, append(errs, validateConversion(spec.Conversion, r, path.Child("conversion"))...)
}

func validateGroup(group string, path *field.Path) field.ErrorList {
	if group == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if msgs := utilvalidation.IsDNS1123Subdomain(group); len(msgs) > 0 {
		return field.ErrorList{field.Invalid(path, group, strings.Join(msgs, ","))}
	}
	if !strings.Contains(group, ".") {
		return field.ErrorList{field.Invalid(path, group, "should be a domain with at least one dot")}
	}
	return nil
}

func validateNames(names *apiextensionsv1.CustomResourceDefinitionNames, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	plain := func(value string, at *field.Path) {
		if msgs := utilvalidation.IsDNS1035Label(value); value != "" && len(msgs) > 0 {
			errs = append(errs, field.Invalid(at, value, strings.Join(msgs, ",")))
		}
	}
	mixed := func(value string, at *field.Path) {
		if msgs := utilvalidation.IsDNS1035Label(strings.ToLower(value)); value != "" && len(msgs) > 0 {
			errs = append(errs, field.Invalid(at, value, "may have mixed case, but should otherwise match: "+strings.Join(msgs, ",")))
		}
	}
	plain(names.Plural, path.Child("plural"))
	plain(names.Singular, path.Child("singular"))
	mixed(names.Kind, path.Child("kind"))
	mixed(names.ListKind, path.Child("listKind"))
	for i, name := range names.ShortNames {
		errs = append(errs, joined(path.Child("shortNames").Index(i), name)...)
	}
	if names.Kind != "" && names.Kind == names.ListKind {
		errs = append(errs, field.Invalid(path.Child("listKind"), names.ListKind, "kind and listKind may not be the same"))
	}
	for i, name := range names.Categories {
		errs = append(errs, joined(path.Child("categories").Index(i), name)...)
	}
	return errs
}

// joined judges a name that may not be empty and gives all findings as one.
func joined(path *field.Path, name string) field.ErrorList {
	if msgs := utilvalidation.IsDNS1035Label(name); len(msgs) > 0 {
		return field.ErrorList{field.Invalid(path, name, strings.Join(msgs, ","))}
	}
	return nil
}

func validateDeprecation(deprecated bool, warning *string, path *field.Path) field.ErrorList {
	if warning == nil {
		return nil
	}
	if !deprecated {
		return field.ErrorList{field.Invalid(path, warning, "can only be set for deprecated versions")}
	}
	var errs field.ErrorList
	if len(*warning) > maxDeprecationWarning {
		errs = append(errs, field.Invalid(path, warning, "must be <= 256 characters long"))
	}
	if *warning == "" {
		errs = append(errs, field.Invalid(path, warning, "must not be an empty string"))
	}
	const printable = "must only contain printable UTF-8 characters"
	for i, c := range *warning {
		if !unicode.IsPrint(c) {
			errs = append(errs, field.Invalid(path, warning, fmt.Sprintf("%s; non-printable character found at index %d", printable, i)))
			break
		}
	}
	if !utf8.ValidString(*warning) {
		errs = append(errs, field.Invalid(path, warning, printable))
	}
	return errs
}

func validateScale(scale *apiextensionsv1.CustomResourceSubresourceScale, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, p := range []struct {
		field, value string
		required     bool
		under        []string
		detail       string
	}{
		{"scale.specReplicasPath", scale.SpecReplicasPath, true, []string{".spec."}, "should be a json path under .spec"},
		{"scale.statusReplicasPath", scale.StatusReplicasPath, true, []string{".status."}, "should be a json path under .status"},
		{
			"scale.labelSelectorPath", ptr.Deref(scale.LabelSelectorPath, ""), false,
			[]string{".spec.", ".status."},
			"should be a json path under either .spec or .status",
		},
	} {
		at := path.Child(p.field)
		if p.value == "" {
			if p.required {
				errs = append(errs, field.Required(at, ""))
			}
			continue
		}
		if found := validateDotPath(p.value, at); len(found) > 0 {
			errs = append(errs, found...)
		} else if !slices.ContainsFunc(p.under, func(prefix string) bool { return strings.HasPrefix(p.value, prefix) }) {
			errs = append(errs, field.Invalid(at, p.value, p.detail))
		}
	}
	return errs
}

func validateDotPath(text string, path *field.Path) field.ErrorList {
	if !strings.HasPrefix(text, ".") {
		return field.ErrorList{field.Invalid(path, text, "must be a simple json path starting with .")}
	}
	return nil
}

func validateColumn(c *apiextensionsv1.CustomResourceColumnDefinition, path *field.Path) field.ErrorList {
	types := []string{"boolean", "date", "integer", "number", "string"}
	formats := []string{"byte", "date", "date-time", "double", "float", "int32", "int64", "password"}
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	oneOf := "must be one of " + strings.Join(types, ",")
	if c.Type == "" {
		errs = append(errs, field.Required(path.Child("type"), oneOf))
	} else if !slices.Contains(types, c.Type) {
		errs = append(errs, field.Invalid(path.Child("type"), c.Type, oneOf))
	}
	if c.Format != "" && !slices.Contains(formats, c.Format) {
		errs = append(errs, field.Invalid(path.Child("format"), c.Format, "must be one of "+strings.Join(formats, ",")))
	}
	if c.JSONPath == "" {
		return append(errs, field.Required(path.Child("JSONPath"), ""))
	}
	return append(errs, validateDotPath(c.JSONPath, path.Child("JSONPath"))...)
}
