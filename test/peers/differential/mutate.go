// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"kogge.dev/kogge/kinds/kindstest"
)

// misshape returns manifests that can't be decoded as they are, or only with a warning: at every place of object a value
// of another type, null, and a field that nobody knows. kindstest.Mutate has the faults that validation finds.
func misshape(object map[string]any) []kindstest.Mutation {
	var out []kindstest.Mutation
	add := func(path []any, what string, value any) {
		m := kindstest.Mutation{Path: path, Object: kindstest.Put(object, path, value)}
		m.Name = fmt.Sprintf("%s=%s", kindstest.PathText(path), what)
		out = append(out, m)
	}
	var visit func(path []any, value any)
	visit = func(path []any, value any) {
		if len(path) > 0 {
			add(path, "null", nil)
		}
		switch v := value.(type) {
		case map[string]any:
			if len(path) > 0 {
				add(path, "text", "text")
				add(path, "list", []any{})
			}
			add(extend(path, "unknownField"), "added", "x")
			for _, key := range slices.Sorted(maps.Keys(v)) {
				visit(extend(path, key), v[key])
			}
		case []any:
			add(path, "text", "text")
			add(path, "object", map[string]any{})
			if len(v) > 0 {
				visit(extend(path, 0), v[0])
			}
		case string:
			add(path, "number", json.Number("7"))
			add(path, "object", map[string]any{})
			add(path, "true", true)
		case float64, int64:
			add(path, "text", "text")
			add(path, "huge", json.Number("9223372036854775808"))
			add(path, "fraction", json.Number("1.5"))
		case bool:
			add(path, "text", "true")
			add(path, "number", json.Number("1"))
		}
	}
	visit(nil, object)
	return out
}

func extend(path []any, step any) []any { return append(slices.Clone(path), step) }

func encode(v any) []byte {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err) // trees of plain values only
	}
	return out
}
