// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/check"
)

// maxDriverName bounds the name of a driver.
const maxDriverName = 63

func requireDriver(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(name) > maxDriverName {
		errs = append(errs, field.TooLong(path, "", maxDriverName))
	}
	return append(errs, check.Messages(path, name, utilvalidation.IsDNS1123Subdomain(strings.ToLower(name)))...)
}

func requireLabel(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return check.Label(name, path)
}

func requireSubdomain(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return check.Subdomain(name, path)
}

func requirePool(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(name) > resourcev1.PoolNameMaxLength {
		errs = append(errs, field.TooLong(path, "", resourcev1.PoolNameMaxLength))
	}
	for part := range strings.SplitSeq(name, "/") {
		errs = append(errs, check.Subdomain(part, path)...)
	}
	return errs
}

// qualifiedName judges the name of an attribute or a capacity: an identifier, optionally after a driver's domain. A name with
// more than one slash passes unseen, as upstream keeps accepting those that were stored once.
func qualifiedName(name string, path *field.Path) field.ErrorList {
	domain, id, found := strings.Cut(name, "/")
	if !found {
		return identifier(name, path)
	}
	if strings.Contains(id, "/") {
		return nil
	}
	var errs field.ErrorList
	if domain == "" {
		errs = append(errs, field.Invalid(path, "", "the domain must not be empty"))
	} else {
		errs = append(errs, requireDriver(domain, path)...)
	}
	if id == "" {
		return append(errs, field.Invalid(path, "", "the name must not be empty"))
	}
	return append(errs, identifier(id, path)...)
}

func identifier(id string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(id) > resourcev1.DeviceMaxIDLength {
		errs = append(errs, field.TooLong(path, "", resourcev1.DeviceMaxIDLength))
	}
	return append(errs, check.Messages(path, id, content.IsCIdentifier(id))...)
}

func fullyQualifiedName(name string, path *field.Path) field.ErrorList {
	errs := qualifiedName(name, path)
	if !strings.Contains(name, "/") {
		errs = append(errs, field.Invalid(path, name, "a fully qualified name must be a domain and a name separated by a slash"))
	}
	return errs
}

// set judges a list with a bound whose items have distinct keys.
func set[T any, K comparable](list []T, bound int, path *field.Path, key func(T) K, judge func(T, *field.Path) field.ErrorList) field.ErrorList {
	if bound >= 0 && len(list) > bound {
		return field.ErrorList{field.TooMany(path, len(list), bound)}
	}
	var errs field.ErrorList
	for i, item := range list {
		errs = append(errs, judge(item, path.Index(i))...)
	}
	seen := map[K]bool{}
	for i, item := range list {
		if k := key(item); seen[k] {
			errs = append(errs, field.Duplicate(path.Index(i), k))
		} else {
			seen[k] = true
		}
	}
	return errs
}

func same(s string) string { return s }

func configuration(c resourcev1.DeviceConfiguration, path *field.Path) field.ErrorList {
	if c.Opaque == nil {
		return field.ErrorList{field.Required(path.Child("opaque"), "")}
	}
	path = path.Child("opaque")
	return append(requireDriver(c.Opaque.Driver, path.Child("driver")),
		rawObject(c.Opaque.Parameters, path.Child("parameters"), resourcev1.OpaqueParametersMaxLength)...)
}

// rawObject judges parameters that only a driver understands: a JSON object of bounded length.
func rawObject(raw runtime.RawExtension, path *field.Path, bound int) field.ErrorList {
	if len(raw.Raw) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	if len(raw.Raw) > bound {
		return field.ErrorList{field.TooLong(path, "", bound)}
	}
	var value any
	if err := json.Unmarshal(raw.Raw, &value); err != nil {
		return field.ErrorList{field.Invalid(path, "<value omitted>", fmt.Sprintf("error parsing data as JSON: %v", err))}
	}
	if _, object := value.(map[string]any); value != nil && !object {
		return field.ErrorList{field.Invalid(path, "<value omitted>", "must be a valid JSON object")}
	}
	if value == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	return nil
}

// exactlyOne judges alternatives of which one must be chosen.
func exactlyOne(path *field.Path, chosen []string, detail string) field.ErrorList {
	switch len(chosen) {
	case 0:
		return field.ErrorList{field.Required(path, detail)}
	case 1:
		return nil
	}
	return field.ErrorList{field.Invalid(path, "{"+strings.Join(chosen, ", ")+"}", detail)}
}

func contains[T comparable](list []T, value T) bool { return slices.Contains(list, value) }
