// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// DropDisabled clears fields of features that v1.36 has switched off, unless the stored spec uses the feature already.
// old is nil on create.
func DropDisabled(spec, old *corev1.PodSpec) {
	if old == nil {
		old = &corev1.PodSpec{}
	}
	dropProjections(spec, old)
	if old.SchedulingGroup == nil {
		spec.SchedulingGroup = nil
	}
	if !anyContainer(old, func(c *corev1.Container) bool { return c.Lifecycle != nil && c.Lifecycle.StopSignal != nil }) {
		visit(spec, nil, func(c *corev1.Container, _ *field.Path) {
			if c.Lifecycle == nil || c.Lifecycle.StopSignal == nil {
				return
			}
			c.Lifecycle.StopSignal = nil
			if *c.Lifecycle == (corev1.Lifecycle{}) {
				c.Lifecycle = nil
			}
		})
	}
}

// dropProjections clears trust bundles and pod certificates.
func dropProjections(spec, old *corev1.PodSpec) {
	bundles, certificates := false, false
	each := func(s *corev1.PodSpec, f func(source *corev1.VolumeProjection)) {
		for i := range s.Volumes {
			if s.Volumes[i].Projected == nil {
				continue
			}
			for j := range s.Volumes[i].Projected.Sources {
				f(&s.Volumes[i].Projected.Sources[j])
			}
		}
	}
	each(old, func(source *corev1.VolumeProjection) {
		bundles = bundles || source.ClusterTrustBundle != nil
		certificates = certificates || source.PodCertificate != nil
	})
	each(spec, func(source *corev1.VolumeProjection) {
		if !bundles {
			source.ClusterTrustBundle = nil
		}
		if !certificates {
			source.PodCertificate = nil
		}
	})
}

// DropDisabledStatus does the same for a pod's status.
func DropDisabledStatus(status, old *corev1.PodStatus) {
	if old.NodeAllocatableResourceClaimStatuses == nil {
		status.NodeAllocatableResourceClaimStatuses = nil
	}
	used := false
	for _, c := range statusesOf(old) {
		for _, mount := range c.VolumeMounts {
			used = used || mount.VolumeStatus != nil
		}
	}
	if used {
		return
	}
	for _, c := range statusesOf(status) {
		for i := range c.VolumeMounts {
			c.VolumeMounts[i].VolumeStatus = nil
		}
	}
}

// statusesOf returns the statuses of all containers of a pod.
func statusesOf(status *corev1.PodStatus) []*corev1.ContainerStatus {
	var all []*corev1.ContainerStatus
	for _, list := range [][]corev1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses, status.EphemeralContainerStatuses} {
		for i := range list {
			all = append(all, &list[i])
		}
	}
	return all
}
