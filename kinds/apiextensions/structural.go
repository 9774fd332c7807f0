// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiextensions

import (
	"errors"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
)

// Structural returns a schema in the form that pruning, defaulting and validation work on; nil for none. It shares parts with the schema.
func Structural(schema *apiextensionsv1.JSONSchemaProps) (*structuralschema.Structural, error) {
	return new(converter).convert(schema)
}

// converter makes structural schemas node by node: the library does so from a form of its own, of which there never is a whole tree here.
type converter struct {
	// node and internal are the node at hand without those below, as it is and in the library's form.
	node     apiextensionsv1.JSONSchemaProps
	internal apiextensions.JSONSchemaProps
}

func (c *converter) convert(s *apiextensionsv1.JSONSchemaProps) (*structuralschema.Structural, error) {
	if s == nil {
		return nil, nil
	}
	out, err := c.bare(s)
	if err != nil {
		return nil, err
	}
	if s.Items != nil {
		if len(s.Items.JSONSchemas) > 0 {
			return nil, errors.New("OpenAPIV3Schema 'items' must be a schema, but is an array")
		}
		if out.Items, err = c.convert(s.Items.Schema); err != nil {
			return nil, err
		}
	}
	if out.Properties, err = c.properties(s.Properties); err != nil {
		return nil, err
	}
	if more := s.AdditionalProperties; more != nil {
		below, err := c.convert(more.Schema)
		if err != nil {
			return nil, err
		}
		out.AdditionalProperties = &structuralschema.StructuralOrBool{Structural: below, Bool: more.Allows || below != nil}
	}
	return out, nil
}

func (c *converter) properties(named map[string]apiextensionsv1.JSONSchemaProps) (map[string]structuralschema.Structural, error) {
	if len(named) == 0 {
		return nil, nil
	}
	out := make(map[string]structuralschema.Structural, len(named))
	for name, property := range byName(named) {
		below, err := c.convert(property)
		if err != nil {
			return nil, err
		}
		out[name] = *below
	}
	return out, nil
}

// bare converts a node without those below.
func (c *converter) bare(s *apiextensionsv1.JSONSchemaProps) (*structuralschema.Structural, error) {
	c.node, c.internal = *s, apiextensions.JSONSchemaProps{}
	c.node.Items, c.node.Properties, c.node.AdditionalProperties = nil, nil, nil
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(&c.node, &c.internal, nil); err != nil {
		return nil, err
	}
	return structuralschema.NewStructural(&c.internal)
}
