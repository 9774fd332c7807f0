// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/apiserver/admission"
)

// mutator is a plugin of the tests.
type mutator func(a *admission.Attributes)

func (m mutator) Admit(_ context.Context, a *admission.Attributes) error {
	m(a)
	return nil
}

// hooks are a plugin that calls others by their names, which may run again; change says which of them change the object.
func hooks(ran *[]string, names []string, change func(name string, second bool) bool) mutator {
	return func(a *admission.Attributes) {
		record := a.Reinvoke()
		record.Enter("hooks", a.Object)
		defer func() { record.Leave("hooks", a.Object) }()
		for _, name := range names {
			if !record.Due(name) {
				continue
			}
			*ran = append(*ran, name)
			if change(name, record.Second()) {
				record.Changed()
			}
			record.Ran(name)
		}
	}
}

func TestReinvocation(t *testing.T) {
	for _, c := range []struct {
		name string
		// change says which hooks change the object; earlier, whether a plugin before them does in the second pass.
		change  func(name string, second bool) bool
		earlier bool
		want    []string
	}{
		{"nobody changes anything", func(string, bool) bool { return false }, false, []string{"a", "b", "c"}},
		{"the second changes it", func(name string, second bool) bool { return name == "b" && !second }, false, []string{"a", "b", "c", "a"}},
		{"one that runs again changes it again", func(name string, second bool) bool { return name == "b" || name == "a" && second }, false, []string{"a", "b", "c", "a", "b", "c"}},
		{"an earlier plugin changes it between", func(name string, second bool) bool { return name == "a" && !second }, true, []string{"a", "b", "c", "a", "b", "c"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ran []string
			pod := &corev1.Pod{}
			a := &admission.Attributes{Object: pod}
			earlier := mutator(func(a *admission.Attributes) {
				if c.earlier && a.Reinvoke().Second() {
					pod.Spec.NodeName = "n"
				}
			})
			last := &admission.Reinvoking{Earlier: []admission.Plugin{{Name: "earlier", Mutate: earlier}}, Last: hooks(&ran, []string{"a", "b", "c"}, c.change)}
			if err := last.Admit(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(ran, c.want) {
				t.Errorf("ran %v, want %v", ran, c.want)
			}
		})
	}
}
