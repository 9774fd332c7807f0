// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/podspec"
)

func validatePod(_ kinds.Request, p *corev1.Pod) field.ErrorList { return podspec.ValidatePod(p) }

func validatePodUpdate(_ kinds.Request, new, old *corev1.Pod) field.ErrorList {
	return podspec.ValidatePodUpdate(new, old)
}

func validatePodStatus(_ kinds.Request, new, old *corev1.Pod) field.ErrorList {
	return podspec.ValidateStatus(new, old)
}

func validateEphemeralContainers(_ kinds.Request, new, old *corev1.Pod) field.ErrorList {
	return podspec.ValidateEphemeralContainers(new, old)
}

func validateResize(_ kinds.Request, new, old *corev1.Pod) field.ErrorList {
	return podspec.ValidateResize(new, old)
}

// warnPod warns on create only: pods are changed by programs, often, and nobody would read it.
func warnPod(_ kinds.Request, new, old *corev1.Pod) []string {
	if old != nil {
		return nil
	}
	var warnings []string
	if msgs := validation.IsDNS1123Label(new.Name); len(msgs) > 0 {
		warnings = append(warnings, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
	}
	return append(warnings, podspec.PodWarnings(new)...)
}

func warnPodStatus(_ kinds.Request, new, _ kinds.Object) []string {
	var warnings []string
	status := &new.(*corev1.Pod).Status
	for i, ip := range status.PodIPs {
		warnings = append(warnings, validation.GetWarningsForIP(field.NewPath("status", "podIPs").Index(i).Child("ip"), ip.IP)...)
	}
	for i, ip := range status.HostIPs {
		warnings = append(warnings, validation.GetWarningsForIP(field.NewPath("status", "hostIPs").Index(i).Child("ip"), ip.IP)...)
	}
	return warnings
}
