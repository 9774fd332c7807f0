// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds/podspec"
)

// defaultPod also brings fields in line that exist twice, for clients of different ages.
func defaultPod(p *corev1.Pod) {
	podspec.DefaultPod(p)
	if seconds := p.Spec.TerminationGracePeriodSeconds; seconds != nil && *seconds < 0 {
		p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](1)
	}
	status := &p.Status
	if status.PodIP != "" && (len(status.PodIPs) == 0 || status.PodIPs[0].IP != status.PodIP) {
		status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
	}
	if status.PodIP == "" && len(status.PodIPs) > 0 {
		status.PodIP = status.PodIPs[0].IP
	}
}
