// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// schemaToV2 turns a v3 schema into its v2 form: references point to definitions and stand alone, defaults and what v2 lacks are dropped.
func schemaToV2(raw json.RawMessage) (any, error) {
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return nil, err
	}
	return convertV2(tree), nil
}

// addSchemasV2 converts a group's schemas into out; own holds those whose v2 form differs by more than references.
func addSchemasV2(out map[string]any, schemas, own map[string]json.RawMessage) error {
	for name, raw := range schemas {
		if other, ok := own[name]; ok {
			raw = other
		}
		converted, err := schemaToV2(raw)
		if err != nil {
			return fmt.Errorf("schema %s: %w", name, err)
		}
		out[name] = openRoot(converted)
	}
	return nil
}

// openRoot reduces the schema of a kind that takes any field to just that: what reads v2 takes a list of properties for complete.
func openRoot(v any) any {
	m, ok := v.(map[string]any)
	if !ok || m["x-kubernetes-preserve-unknown-fields"] != true || m[kindExtension] == nil {
		return v
	}
	return map[string]any{"type": "object", kindExtension: m[kindExtension]}
}

func convertV2(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = convertV2(v[i])
		}
		return v
	case map[string]any:
		return convertObject(v)
	default:
		return v
	}
}

// loosen drops what readers of v2 misunderstand: they know neither null nor objects that take any field.
func loosen(v map[string]any) {
	nullable, open := v["nullable"] == true, v["x-kubernetes-preserve-unknown-fields"] == true
	if nullable || open {
		delete(v, "items")
		delete(v, "properties")
	}
	if nullable || open && v["type"] == "object" || v["type"] == "array" && v["items"] == nil {
		delete(v, "type")
	}
	if open && v["x-kubernetes-embedded-resource"] == true { // nor those that are whole objects of any kind
		if required, ok := v["required"].([]any); ok {
			v["required"] = slices.DeleteFunc(required, func(name any) bool { return name == "kind" || name == "apiVersion" })
			if len(v["required"].([]any)) == 0 {
				delete(v, "required")
			}
		}
	}
	properties, _ := v["properties"].(map[string]any)
	if required, ok := v["required"].([]any); ok && properties != nil {
		v["required"] = slices.DeleteFunc(required, func(name any) bool {
			text, _ := name.(string)
			property, _ := properties[text].(map[string]any)
			return property["nullable"] == true
		})
	}
}

func convertObject(v map[string]any) any {
	loosen(v)
	// A reference with siblings is wrapped in allOf in v3 only.
	if all, ok := v["allOf"].([]any); ok && len(all) == 1 {
		if one, ok := all[0].(map[string]any); ok && one["$ref"] != nil {
			v["$ref"] = one["$ref"]
			delete(v, "allOf")
		}
	}
	if ref, ok := v["$ref"].(string); ok {
		if name, ok := isV3Ref(ref); ok {
			v["$ref"] = "#/definitions/" + name
		}
	}
	_, isProperty := v["type"].(map[string]any) // A property that is called "type".
	if !isProperty {
		for _, key := range []string{"default", "oneOf", "anyOf", "nullable"} {
			if _, named := v[key].(map[string]any); named && key != "default" {
				continue
			}
			if key == "default" && looksLikeSchema(v[key]) {
				continue
			}
			delete(v, key)
		}
	}
	for key, child := range v {
		v[key] = convertV2(child)
	}
	return v
}

// looksLikeSchema tells a property called "default" from a default value.
func looksLikeSchema(v any) bool {
	m, ok := v.(map[string]any)
	return ok && (m["type"] != nil || m["$ref"] != nil || m["allOf"] != nil)
}

// pathToV2 turns a v3 path item into its v2 form.
func pathToV2(item any) (any, error) {
	raw, err := json.Marshal(item)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return nil, err
	}
	for key, v := range tree {
		if key == "parameters" {
			tree[key] = parametersToV2(v)
			continue
		}
		op, ok := v.(map[string]any)
		if !ok {
			continue
		}
		operationToV2(op)
	}
	return tree, nil
}

func operationToV2(op map[string]any) {
	params := parametersToV2(op["parameters"])
	if body, ok := op["requestBody"].(map[string]any); ok {
		content, _ := body["content"].(map[string]any)
		var media []string
		var model any
		for _, m := range slices.Sorted(maps.Keys(content)) {
			media = append(media, m)
			one, _ := content[m].(map[string]any)
			model = convertV2(one["schema"])
		}
		param := map[string]any{"in": "body", "name": "body", "schema": model}
		if body["required"] == true {
			param["required"] = true
		}
		params = append(params, param)
		op["consumes"] = media
		delete(op, "requestBody")
	} else {
		op["consumes"] = []string{"*/*"}
	}
	delete(op, "parameters")
	if len(params) > 0 {
		op["parameters"] = params
	}
	responses, _ := op["responses"].(map[string]any)
	for _, r := range responses {
		answer, ok := r.(map[string]any)
		if !ok {
			continue
		}
		if content, ok := answer["content"].(map[string]any); ok {
			var media []string
			for _, m := range slices.Sorted(maps.Keys(content)) {
				media = append(media, m)
				one, _ := content[m].(map[string]any)
				answer["schema"] = convertV2(one["schema"])
			}
			op["produces"] = media
			delete(answer, "content")
		}
	}
	op["schemes"] = []string{"https"}
}

// parametersToV2 moves a parameter's type out of its schema.
func parametersToV2(v any) []any {
	list, _ := v.([]any)
	for _, p := range list {
		param, ok := p.(map[string]any)
		if !ok {
			continue
		}
		if s, ok := param["schema"].(map[string]any); ok {
			maps.Copy(param, s)
			delete(param, "schema")
		}
	}
	return list
}
