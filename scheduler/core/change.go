// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/internal/equal"
)

// nodeActions tells which changes of a node scheduling may depend on; heartbeats are none.
func nodeActions(old, node *corev1.Node) Action {
	var a Action
	if !equal.Semantic(old.Status.Allocatable, node.Status.Allocatable) {
		a |= UpdateAllocatable
	}
	if !maps.Equal(old.Labels, node.Labels) {
		a |= UpdateLabels
	}
	if old.Spec.Unschedulable != node.Spec.Unschedulable || !equal.Semantic(old.Spec.Taints, node.Spec.Taints) {
		a |= UpdateTaints
	}
	if !sameConditions(old.Status.Conditions, node.Status.Conditions) {
		a |= UpdateConditions
	}
	if !slices.Equal(old.Status.DeclaredFeatures, node.Status.DeclaredFeatures) {
		a |= UpdateFeatures
	}
	return a
}

func sameConditions(a, b []corev1.NodeCondition) bool {
	if len(a) != len(b) {
		return false
	}
	states := make(map[corev1.NodeConditionType]corev1.ConditionStatus, len(a))
	for i := range a {
		states[a[i].Type] = a[i].Status
	}
	for i := range b {
		if states[b[i].Type] != b[i].Status {
			return false
		}
	}
	return true
}

// podActions tells which changes of an assigned pod scheduling may depend on.
func podActions(old, pod *Pod) Action {
	var a Action
	if !maps.Equal(old.Labels, pod.Labels) {
		a |= UpdateLabels
	}
	if shrank(&old.Requests, &pod.Requests) {
		a |= UpdateScaleDown
	}
	if old.DeletionTimestamp == nil && pod.DeletionTimestamp != nil {
		a |= Update // a terminating pod no longer counts for spreading
	}
	return a
}

func shrank(old, now *Amounts) bool {
	if now.MilliCPU < old.MilliCPU || now.Memory < old.Memory || now.Ephemeral < old.Ephemeral {
		return true
	}
	for name, v := range old.Extended {
		if now.Extended[name] < v {
			return true
		}
	}
	return false
}

// specChanged tells whether a waiting pod changed in a way that scheduling may depend on; of its own
// status, only the names of its resource claims count.
func specChanged(old, pod *Pod) bool {
	return !maps.Equal(old.Labels, pod.Labels) || !maps.Equal(old.Annotations, pod.Annotations) ||
		!equal.Semantic(old.Spec, pod.Spec) ||
		!equal.Semantic(old.Status.ResourceClaimStatuses, pod.Status.ResourceClaimStatuses)
}
