// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
)

// binding assigns a pod to a node; it is never stored. The API server applies it to the pod of the same name.
func binding() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:     "bindings",
		Singular:     "binding",
		Namespaced:   true,
		NoGeneration: true,
		Verbs:        []string{"create"},
	}, version.WithKind("Binding"),
		func() *corev1.Binding { return &corev1.Binding{} },
		func() runtime.Object { return &corev1.Binding{} },
		kinds.Strategy[*corev1.Binding]{Validate: validateBinding})
}

func validateBinding(_ kinds.Request, b *corev1.Binding) field.ErrorList {
	return ValidateBinding(b)
}

// ValidateBinding judges a binding, also one sent to a pod's binding subresource.
func ValidateBinding(b *corev1.Binding) field.ErrorList {
	var errs field.ErrorList
	target := field.NewPath("target")
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		errs = append(errs, field.NotSupported(target.Child("kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		errs = append(errs, field.Required(target.Child("name"), ""))
	}
	return errs
}
