// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

func validateReplicaSet(_ kinds.Request, rs *appsv1.ReplicaSet) field.ErrorList {
	return validateReplicaSetSpec(&rs.Spec, nil, field.NewPath("spec"))
}

func validateReplicaSetUpdate(_ kinds.Request, new, old *appsv1.ReplicaSet) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateReplicaSetSpec(&new.Spec, &old.Spec.Template, path)
	return append(errs, check.Immutable(new.Spec.Selector, old.Spec.Selector, path.Child("selector"))...)
}

func validateReplicaSetSpec(spec *appsv1.ReplicaSetSpec, old *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	errs := check.Counts(path, check.Optional("replicas", spec.Replicas), n32("minReadySeconds", spec.MinReadySeconds))
	return append(errs, validateReplicatedTemplate(spec.Selector, &spec.Template, old, path)...)
}

func validateReplicaSetStatus(_ kinds.Request, new, _ *appsv1.ReplicaSet) field.ErrorList {
	path, s := field.NewPath("status"), &new.Status
	labelled, ready, available := n32("fullyLabeledReplicas", s.FullyLabeledReplicas), n32("readyReplicas", s.ReadyReplicas), n32("availableReplicas", s.AvailableReplicas)
	errs := check.Counts(path,
		n32("replicas", s.Replicas), labelled, ready, available,
		check.Count{Field: "observedGeneration", Value: s.ObservedGeneration},
		check.Optional("terminatingReplicas", s.TerminatingReplicas),
	)
	errs = append(errs, check.Within(path, s.Replicas, "cannot be greater than status.replicas", labelled, ready, available)...)
	return append(errs, check.Within(path, s.ReadyReplicas, "cannot be greater than readyReplicas", available)...)
}

// orZero returns what p points to, or the number zero.
func orZero(p *intstr.IntOrString) intstr.IntOrString {
	if p == nil {
		return intstr.FromInt32(0)
	}
	return *p
}
