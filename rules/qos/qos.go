// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package qos computes the quality of service of pods.
package qos

import (
	corev1 "k8s.io/api/core/v1"
)

// Of returns the class of a pod: the one that it was given when it was created, else the one that Compute finds.
func Of(pod *corev1.Pod) corev1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	return Compute(pod)
}

// Compute computes a pod's quality of service from its requests and limits of CPU and memory: those of the pod as a whole
// where it has any, else those of its containers. It is Guaranteed when all are limited to what they request, BestEffort
// when nothing is said, and Burstable otherwise. A pod's class is fixed when it is
// created, so ask for it with Of.
func Compute(pod *corev1.Pod) corev1.PodQOSClass {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	guaranteed := true
	add := func(r *corev1.ResourceRequirements) {
		addCompute(requests, r.Requests)
		if addCompute(limits, r.Limits) < 2 {
			guaranteed = false
		}
	}
	if own := pod.Spec.Resources; own != nil {
		addCompute(requests, own.Requests)
		if len(own.Limits) > 0 && addCompute(limits, own.Limits) < 2 {
			guaranteed = false
		}
	} else {
		for i := range pod.Spec.Containers {
			add(&pod.Spec.Containers[i].Resources)
		}
		for i := range pod.Spec.InitContainers {
			add(&pod.Spec.InitContainers[i].Resources)
		}
	}
	if len(requests) == 0 && len(limits) == 0 {
		return corev1.PodQOSBestEffort
	}
	if !guaranteed || len(requests) != len(limits) {
		return corev1.PodQOSBurstable
	}
	for name, request := range requests {
		if limit, ok := limits[name]; !ok || limit.Cmp(request) != 0 {
			return corev1.PodQOSBurstable
		}
	}
	return corev1.PodQOSGuaranteed
}

// addCompute adds the CPU and memory of a list to a sum and returns how many of the two the list has.
func addCompute(sum, list corev1.ResourceList) int {
	found := 0
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		quantity, ok := list[name]
		if !ok || quantity.Sign() <= 0 {
			continue
		}
		found++
		total := quantity.DeepCopy()
		if have, ok := sum[name]; ok {
			total.Add(have)
		}
		sum[name] = total
	}
	return found
}
