// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"reflect"
	"strconv"
	"unsafe"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// The schemas of definitions contain each other through types that are one thing or the other in JSON. Their own methods give what is
// inside to encoding/json, once more on each level.

func (m planner) appenderOfSchemaOrArray() appender {
	schema, list := m.plan(reflect.TypeFor[*apiextensionsv1.JSONSchemaProps]()), m.plan(reflect.TypeFor[[]apiextensionsv1.JSONSchemaProps]())
	return func(to []byte, p unsafe.Pointer) ([]byte, error) {
		v := (*apiextensionsv1.JSONSchemaPropsOrArray)(p)
		if len(v.JSONSchemas) > 0 {
			return list.write(to, unsafe.Pointer(&v.JSONSchemas))
		}
		return schema.write(to, unsafe.Pointer(&v.Schema))
	}
}

func (m planner) appenderOfSchemaOrBool() appender {
	schema := m.plan(reflect.TypeFor[*apiextensionsv1.JSONSchemaProps]())
	return func(to []byte, p unsafe.Pointer) ([]byte, error) {
		v := (*apiextensionsv1.JSONSchemaPropsOrBool)(p)
		if v.Schema == nil {
			return strconv.AppendBool(to, v.Allows), nil
		}
		return schema.write(to, unsafe.Pointer(&v.Schema))
	}
}

func (m planner) appenderOfSchemaOrStringArray() appender {
	schema, list := m.plan(reflect.TypeFor[*apiextensionsv1.JSONSchemaProps]()), m.plan(reflect.TypeFor[[]string]())
	return func(to []byte, p unsafe.Pointer) ([]byte, error) {
		v := (*apiextensionsv1.JSONSchemaPropsOrStringArray)(p)
		if len(v.Property) > 0 {
			return list.write(to, unsafe.Pointer(&v.Property))
		}
		return schema.write(to, unsafe.Pointer(&v.Schema))
	}
}

// appendRaw appends what is JSON already: defaults, examples, values of an enum.
func appendRaw(to []byte, p unsafe.Pointer) ([]byte, error) {
	v := (*apiextensionsv1.JSON)(p)
	if len(v.Raw) == 0 {
		return append(to, "null"...), nil
	}
	return appendForeign(to, v.Raw, nil)
}
