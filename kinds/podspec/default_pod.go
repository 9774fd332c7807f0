// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// DefaultPod fills the unset fields of a pod: those of Default, and some that templates keep unset, so that stored
// templates do not change when a default is added.
func DefaultPod(pod *corev1.Pod) {
	spec := &pod.Spec
	dropInitAnnotations(pod.Annotations)
	for i := range spec.Containers {
		requestLimits(&spec.Containers[i].Resources)
	}
	for i := range spec.InitContainers {
		requestLimits(&spec.InitContainers[i].Resources)
	}
	// The pod's own resources follow from the containers', so those come first.
	if spec.Resources != nil {
		defaultPodHugePages(pod)
		defaultPodRequests(pod)
	}
	setNil(&spec.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	if spec.HostNetwork {
		defaultHostPorts(spec.Containers)
		defaultHostPorts(spec.InitContainers)
	}
	Default(spec)
	for _, statuses := range [][]corev1.ContainerStatus{
		pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses,
	} {
		for i := range statuses {
			RoundUp(statuses[i].AllocatedResources)
			roundUpRequirements(statuses[i].Resources)
		}
	}
	RoundUp(pod.Status.AllocatedResources)
	roundUpRequirements(pod.Status.Resources)
}

func roundUpRequirements(r *corev1.ResourceRequirements) {
	if r != nil {
		RoundUp(r.Limits)
		RoundUp(r.Requests)
	}
}

// requestLimits requests what is limited and not requested.
func requestLimits(r *corev1.ResourceRequirements) {
	if r.Limits == nil {
		return
	}
	if r.Requests == nil {
		r.Requests = corev1.ResourceList{}
	}
	fillFrom(r.Requests, r.Limits, func(corev1.ResourceName) bool { return true })
}

// fillFrom adds to list the entries of from that it lacks and that take accepts.
func fillFrom(list, from corev1.ResourceList, take func(corev1.ResourceName) bool) {
	for name, quantity := range from {
		if _, ok := list[name]; !ok && take(name) {
			list[name] = quantity.DeepCopy()
		}
	}
}

// defaultPodHugePages limits the pod to the sum of its containers' huge pages, where the pod says nothing about them.
func defaultPodHugePages(pod *corev1.Pod) {
	r := pod.Spec.Resources
	if len(r.Limits) == 0 && len(r.Requests) == 0 {
		return
	}
	limits := r.Limits
	if limits == nil {
		limits = corev1.ResourceList{}
	}
	fillFrom(limits, resource.AggregateContainerLimits(pod, resource.PodResourcesOptions{}), func(name corev1.ResourceName) bool {
		_, requested := r.Requests[name]
		return isHugePage(name) && !requested
	})
	if len(limits) > 0 {
		r.Limits = limits
	}
}

// defaultPodRequests requests, for a pod with limits of its own, what its containers request together, else its limits.
func defaultPodRequests(pod *corev1.Pod) {
	r := pod.Spec.Resources
	if len(r.Limits) == 0 {
		return
	}
	requests := r.Requests
	if requests == nil {
		requests = corev1.ResourceList{}
	}
	fillFrom(requests, resource.AggregateContainerRequests(pod, resource.PodResourcesOptions{}), func(name corev1.ResourceName) bool {
		return resource.IsSupportedPodLevelResource(name) && overcommittable(name)
	})
	fillFrom(requests, r.Limits, resource.IsSupportedPodLevelResource)
	if len(requests) > 0 {
		r.Requests = requests
	}
}

// overcommittable reports whether a node may promise more of a resource than it has: its own, but for huge pages.
func overcommittable(name corev1.ResourceName) bool {
	return isNative(name) && !isHugePage(name)
}

func isHugePage(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// isNative reports whether a resource is Kubernetes' own.
func isNative(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// defaultHostPorts opens every container port on the host too, as a container in the host's network does.
func defaultHostPorts(containers []corev1.Container) {
	for i := range containers {
		for j := range containers[i].Ports {
			port := &containers[i].Ports[j]
			setZero(&port.HostPort, port.ContainerPort)
		}
	}
}
