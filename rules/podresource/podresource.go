// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package podresource sums up what pods ask for. It binds the published computation to what v1.36 has switched on, so
// that scheduler, kubelet, quota and eviction agree.
package podresource

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// Requests returns what a node must set aside for a pod: the larger of what its containers need together and what its
// init containers need in turn, sidecars in both, or what the pod asks for as a whole; and its overhead. While a running
// pod is resized it counts with the larger of what it has and what it is to get.
func Requests(pod *corev1.Pod) corev1.ResourceList {
	return resource.PodRequests(pod, running())
}

// Limits returns the same for limits.
func Limits(pod *corev1.Pod) corev1.ResourceList {
	return resource.PodLimits(pod, running())
}

// SpecRequests returns what the spec asks for, whatever the pod has by now.
func SpecRequests(pod *corev1.Pod) corev1.ResourceList {
	return resource.PodRequests(pod, resource.PodResourcesOptions{})
}

// SpecLimits returns the same for limits.
func SpecLimits(pod *corev1.Pod) corev1.ResourceList {
	return resource.PodLimits(pod, resource.PodResourcesOptions{})
}

// RequestsOr is Requests with values for what containers do not request, as the scheduler's scoring assumes some use of
// every container.
func RequestsOr(pod *corev1.Pod, missing corev1.ResourceList) corev1.ResourceList {
	opts := running()
	opts.NonMissingContainerRequests = missing
	return resource.PodRequests(pod, opts)
}

func running() resource.PodResourcesOptions {
	return resource.PodResourcesOptions{UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true}
}
