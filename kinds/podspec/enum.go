// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// oneOf judges an enumeration whose empty value is no special case.
func oneOf[T ~string](value T, at *field.Path, allowed ...T) field.ErrorList {
	if slices.Contains(allowed, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(at, value, allowed)}
}

// visit calls f for each container of a spec, in the order in which they are judged: init, main, ephemeral.
func visit(spec *corev1.PodSpec, at *field.Path, f func(c *corev1.Container, at *field.Path)) {
	for i := range spec.InitContainers {
		f(&spec.InitContainers[i], at.Child("initContainers").Index(i))
	}
	for i := range spec.Containers {
		f(&spec.Containers[i], at.Child("containers").Index(i))
	}
	for i := range spec.EphemeralContainers {
		f((*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon), at.Child("ephemeralContainers").Index(i))
	}
}

// anyContainer reports whether some container satisfies f.
func anyContainer(spec *corev1.PodSpec, f func(c *corev1.Container) bool) bool {
	found := false
	visit(spec, nil, func(c *corev1.Container, _ *field.Path) { found = found || f(c) })
	return found
}

// isSidecar reports whether an init container keeps running beside the main ones.
func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
