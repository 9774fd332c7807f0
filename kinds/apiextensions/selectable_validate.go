// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiextensions

import (
	"errors"
	"fmt"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxSelectable bounds the fields of one version that lists can select by.
const maxSelectable = 8

func validateSelectableFields(fields []apiextensionsv1.SelectableField, schema *apiextensionsv1.JSONSchemaProps, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, f := range fields {
		at := path.Index(i).Child("jsonPath")
		if f.JSONPath == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		found, err := resolve(schema, f.JSONPath)
		if err != nil {
			errs = append(errs, field.Invalid(at, f.JSONPath, fmt.Sprintf("is an invalid path: %v", err)))
			continue
		}
		if f.JSONPath == ".metadata" || strings.HasPrefix(f.JSONPath, ".metadata.") {
			errs = append(errs, field.Invalid(at, f.JSONPath, "must not point to fields in metadata"))
		}
		if found.Type != "string" && found.Type != "boolean" && found.Type != "integer" {
			errs = append(errs, field.Invalid(at, f.JSONPath,
				"must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."))
		}
		if seen[f.JSONPath] {
			errs = append(errs, field.Duplicate(at, f.JSONPath))
		}
		seen[f.JSONPath] = true
	}
	if len(seen) > maxSelectable {
		errs = append(errs, field.TooMany(path, len(seen), maxSelectable))
	}
	return errs
}

// resolve follows a path of property names, or keys of maps, through a schema.
func resolve(schema *apiextensionsv1.JSONSchemaProps, path string) (*apiextensionsv1.JSONSchemaProps, error) {
	for path != "" {
		rest, dotted := strings.CutPrefix(path, ".")
		switch {
		case path[0] == '[':
			return nil, errors.New("array notation is not allowed")
		case !dotted:
			return nil, fmt.Errorf("expected [ or . but got: %s", token(path))
		case rest == "":
			return nil, errors.New("unexpected end of JSON path")
		}
		name := token(rest)
		switch more := schema.AdditionalProperties; {
		case schema.Properties != nil:
			next, found := schema.Properties[name]
			if !found {
				return nil, errNoField
			}
			schema = &next
		case more != nil && more.Schema != nil:
			schema = more.Schema
		default:
			return nil, errNoField
		}
		path = rest[len(name):]
	}
	return schema, nil
}

var errNoField = errors.New("does not refer to a valid field")

// token is what path starts with: a name, or one of the signs between names.
func token(path string) string {
	switch end := strings.IndexAny(path, ".[]"); end {
	case -1:
		return path
	case 0:
		return path[:1]
	default:
		return path[:end]
	}
}
