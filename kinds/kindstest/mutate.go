// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package kindstest helps to test what kinds admit and refuse: it takes good manifests apart into small faults, the same
// ones each time, so that two servers can be asked about each.
package kindstest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Mutation is a manifest with one fault.
type Mutation struct {
	// Name says where and what: "spec.replicas=-1".
	Name string
	// Path to the fault: field names, and indices into lists.
	Path []any
	// Object is the whole manifest; it shares nothing with others.
	Object map[string]any
}

// Mutate returns, in a fixed order, one manifest for each fault that fits somewhere in object: a field left out, an empty or
// malformed text, a number out of any range, a truth value turned over, a list entry given twice, a key that no map of
// labels has. Names and types of the object itself stay.
func Mutate(object map[string]any) []Mutation {
	m := &mutator{root: object}
	m.visit(nil, object)
	return m.out
}

type mutator struct {
	root map[string]any
	out  []Mutation
}

// kept are the fields that make an object what it is.
func kept(path []any) bool {
	if len(path) == 1 {
		return path[0] == "kind" || path[0] == "apiVersion"
	}
	return len(path) == 2 && path[0] == "metadata"
}

func (m *mutator) visit(path []any, value any) {
	if kept(path) {
		return
	}
	if len(path) > 1 {
		m.add(path, "absent", nil, true)
	}
	switch v := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			m.visit(extend(path, key), v[key])
		}
		if len(path) > 1 && texts(v) {
			m.add(extend(path, "not a key!"), "added", "x", false)
		}
	case []any:
		m.add(path, "empty", []any{}, false)
		if len(v) > 0 {
			m.add(path, "doubled", append(clone(v).([]any), clone(v[0])), false)
		}
		for i := range v {
			m.visit(extend(path, i), v[i])
		}
	case string:
		for _, text := range []string{"", "Not Valid!", "-dash", "a/b/c"} {
			m.add(path, fmt.Sprintf("%q", text), text, false)
		}
	case int64, float64:
		for _, n := range []int64{-1, 0, 1 << 30} {
			m.add(path, fmt.Sprint(n), n, false)
		}
	case bool:
		m.add(path, fmt.Sprint(!v), !v, false)
	}
}

// texts reports whether a map is one of names to texts, such as labels.
func texts(v map[string]any) bool {
	for _, value := range v {
		if _, ok := value.(string); !ok {
			return false
		}
	}
	return len(v) > 0
}

func extend(path []any, step any) []any { return append(slices.Clone(path), step) }

func (m *mutator) add(path []any, what string, value any, remove bool) {
	var object map[string]any
	switch _, entry := path[len(path)-1].(int); {
	case remove && entry:
		return // lists are shortened as a whole
	case remove:
		object = without(m.root, path)
	default:
		object = Put(m.root, path, value)
	}
	m.out = append(m.out, Mutation{Name: PathText(path) + "=" + what, Path: path, Object: object})
}

// PathText writes a path as names of mutations have it: "spec.ports[0].name".
func PathText(path []any) string {
	var name strings.Builder
	for _, step := range path {
		switch s := step.(type) {
		case string:
			name.WriteString("." + s)
		case int:
			fmt.Fprintf(&name, "[%d]", s)
		}
	}
	return strings.TrimPrefix(name.String(), ".")
}

// Put returns a copy of object with a value at a path, all but the last step of which is there.
func Put(object map[string]any, path []any, value any) map[string]any {
	out := clone(object).(map[string]any)
	switch parent, last := parentOf(out, path); step := last.(type) {
	case string:
		parent.(map[string]any)[step] = value
	case int:
		parent.([]any)[step] = value
	}
	return out
}

func without(object map[string]any, path []any) map[string]any {
	out := clone(object).(map[string]any)
	parent, last := parentOf(out, path)
	delete(parent.(map[string]any), last.(string))
	return out
}

// parentOf walks to the map or list that holds the end of a path.
func parentOf(object map[string]any, path []any) (parent, last any) {
	var at any = object
	for _, step := range path[:len(path)-1] {
		switch s := step.(type) {
		case string:
			at = at.(map[string]any)[s]
		case int:
			at = at.([]any)[s]
		}
	}
	return at, path[len(path)-1]
}

func clone(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			out[key] = clone(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = clone(item)
		}
		return out
	}
	return value
}
