// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/rules/qos"
)

const onlyCompute = "only cpu and memory resources are mutable"

// ValidateResize judges a change of the resources of a pod that runs: CPU and memory may change where they are given, and
// the pod must stay in its class of service.
func ValidateResize(pod, old *corev1.Pod) field.ErrorList {
	whole := field.NewPath("")
	if _, static := old.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return field.ErrorList{field.Forbidden(whole, "static pods cannot be resized")}
	}
	if old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(whole, "windows pods cannot be resized")}
	}
	errs := validateWholePod(pod, OptionsFor(old))
	at := field.NewPath("spec")
	if qos.Of(old) != qos.Compute(pod) {
		errs = append(errs, field.Invalid(at, pod.Status.QOSClass, "Pod QOS Class may not change as a result of resizing"))
	}
	if !resizable(old) {
		errs = append(errs, field.Forbidden(at, "Pod running on node without support for resize"))
	}
	rest := pod.Spec.DeepCopy()
	if hasResources(&pod.Spec) || hasResources(&old.Spec) {
		errs = append(errs, validateOwnResize(&pod.Spec, &old.Spec, rest, at)...)
	}
	if len(old.Status.NodeAllocatableResourceClaimStatuses) > 0 {
		errs = append(errs, field.Forbidden(at, "pods with node allocatable resource claims cannot be resized"))
	}
	if bad := validateSameContainers(&pod.Spec, &old.Spec, at); len(bad) > 0 {
		return append(errs, bad...)
	}
	for i := range old.Spec.InitContainers {
		errs = append(errs, validateKept(&pod.Spec.InitContainers[i].Resources, &old.Spec.InitContainers[i].Resources, at.Child("initContainers").Index(i).Child("resources"))...)
	}
	for i := range old.Spec.Containers {
		errs = append(errs, validateKept(&pod.Spec.Containers[i].Resources, &old.Spec.Containers[i].Resources, at.Child("containers").Index(i).Child("resources"))...)
	}
	for i := range rest.Containers {
		resetCompute(&rest.Containers[i].Resources, &old.Spec.Containers[i].Resources)
		if !equal.Semantic(rest.Containers[i], old.Spec.Containers[i]) {
			errs = append(errs, field.Forbidden(at, onlyCompute))
		}
	}
	for i := range rest.InitContainers {
		errs = append(errs, validateInitResize(&rest.InitContainers[i], &old.Spec.InitContainers[i], at.Child("initContainers").Index(i))...)
	}
	if len(errs) == 0 && !equal.Semantic(rest, &old.Spec) {
		errs = append(errs, field.Forbidden(at, onlyCompute))
	}
	return errs
}

func validateInitResize(c, old *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	changed := !equal.Semantic(*c, *old)
	resetCompute(&c.Resources, &old.Resources)
	if !equal.Semantic(*c, *old) {
		errs = append(errs, field.Forbidden(at, "only cpu and memory resources for init or sidecar containers are mutable"))
	}
	if !changed || isSidecar(c) {
		return errs
	}
	for _, policy := range c.ResizePolicy {
		if policy.RestartPolicy == corev1.RestartContainer {
			errs = append(errs, field.Forbidden(at, "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"))
		}
	}
	return errs
}

// resizable reports whether the pod's node has shown that it knows about resizing; without a running container it can't.
func resizable(pod *corev1.Pod) bool {
	for _, c := range pod.Status.ContainerStatuses {
		if c.State.Running != nil {
			return c.Resources != nil
		}
	}
	return true
}

func hasResources(spec *corev1.PodSpec) bool {
	return spec.Resources != nil && len(spec.Resources.Requests)+len(spec.Resources.Limits) > 0
}

// validateOwnResize judges the resources of the pod as a whole, and sets those of rest back to what may not change.
func validateOwnResize(spec, old, rest *corev1.PodSpec, at *field.Path) field.ErrorList {
	path := at.Child("resources")
	if old.Resources != nil && spec.Resources == nil {
		return field.ErrorList{field.Forbidden(path, "pod-level resources cannot be removed")}
	}
	var errs field.ErrorList
	before := &corev1.ResourceRequirements{}
	if old.Resources != nil {
		before = old.Resources
		if removed(spec.Resources.Requests, before.Requests) {
			errs = append(errs, field.Forbidden(path.Child("requests"), "pod-level resource requests cannot be removed"))
		}
		if removed(spec.Resources.Limits, before.Limits) {
			errs = append(errs, field.Forbidden(path.Child("limits"), "pod-level resource limits cannot be removed"))
		}
	}
	rest.Resources.Requests = resetList(rest.Resources.Requests, before.Requests)
	rest.Resources.Limits = resetList(rest.Resources.Limits, before.Limits)
	if old.Resources == nil && len(rest.Resources.Requests)+len(rest.Resources.Limits)+len(rest.Resources.Claims) == 0 {
		rest.Resources = nil
	}
	if !equal.Semantic(rest.Resources, old.Resources) {
		errs = append(errs, field.Forbidden(at, onlyCompute+" at pod-level"))
	}
	return errs
}

func validateSameContainers(spec, old *corev1.PodSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, l := range []struct {
		name     string
		new, old []corev1.Container
	}{{"containers", spec.Containers, old.Containers}, {"initContainers", spec.InitContainers, old.InitContainers}} {
		if len(l.new) != len(l.old) {
			errs = append(errs, field.Forbidden(at.Child(l.name), l.name+" may not be added or removed on resize"))
			continue
		}
		for i := range l.old {
			if l.new[i].Name != l.old[i].Name {
				errs = append(errs, field.Forbidden(at.Child(l.name).Index(i).Child("name"), l.name+" may not be renamed or reordered on resize"))
			}
		}
	}
	return errs
}

func validateKept(r, old *corev1.ResourceRequirements, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if removed(r.Requests, old.Requests) {
		errs = append(errs, field.Forbidden(at.Child("requests"), "resource requests cannot be removed"))
	}
	if removed(r.Limits, old.Limits) {
		errs = append(errs, field.Forbidden(at.Child("limits"), "resource limits cannot be removed"))
	}
	return errs
}

func removed(list, old corev1.ResourceList) bool {
	for name := range old {
		if _, ok := list[name]; !ok {
			return true
		}
	}
	return false
}

// resetCompute gives r the CPU and memory of old, and no claims: a container with claims can't be resized.
func resetCompute(r, old *corev1.ResourceRequirements) {
	*r = corev1.ResourceRequirements{Limits: resetList(r.Limits, old.Limits), Requests: resetList(r.Requests, old.Requests)}
}

func resetList(list, old corev1.ResourceList) corev1.ResourceList {
	if list == nil && old == nil {
		return nil
	}
	out := corev1.ResourceList{}
	for name, quantity := range list {
		if name != corev1.ResourceCPU && name != corev1.ResourceMemory {
			out[name] = quantity
		}
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if quantity, ok := old[name]; ok {
			out[name] = quantity
		}
	}
	return out
}
