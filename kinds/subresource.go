// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/internal/equal"
)

// Status describes the status subresource of a kind whose status can be read and replaced on its own.
func Status[T Object](prepare func(req Request, new, old T), validate func(req Request, new, old T) field.ErrorList) Subresource {
	return Subresource{
		Name:     "status",
		Verbs:    []string{"get", "patch", "update"},
		Prepare:  Pair(prepare),
		Validate: Judge(validate),
	}
}

// Scalable describes the scale subresource, through which autoscaling/v1 Scale reads and writes replica counts.
func Scalable[T Object](get func(obj T) (spec, status int32, selector string), set func(obj T, replicas int32)) Subresource {
	return Subresource{
		Name:             "scale",
		Verbs:            []string{"get", "patch", "update"},
		GroupVersionKind: autoscalingv1.SchemeGroupVersion.WithKind("Scale"),
		New:              func() Object { return &autoscalingv1.Scale{} },
		Scale: &Scale{
			Get: func(obj Object) (int32, int32, string) { return get(obj.(T)) },
			Set: func(obj Object, replicas int32) { set(obj.(T), replicas) },
		},
	}
}

// RaiseGeneration gives new the generation of old, one higher when the two parts that count as desired state differ.
func RaiseGeneration(new, old metav1.Object, newPart, oldPart any) {
	generation := old.GetGeneration()
	if !equal.Semantic(newPart, oldPart) {
		generation++
	}
	new.SetGeneration(generation)
}
