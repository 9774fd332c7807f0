// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package pods answers questions about pods that several engines ask: is it ready, since when, may it be deleted before
// another, what does a controller's template make.
package pods

import (
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition returns the pod's condition of a type, or nil.
func Condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// IsReady reports whether the pod's Ready condition is true.
func IsReady(pod *corev1.Pod) bool {
	c := Condition(pod, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// IsAvailable reports whether the pod has been ready for minReadySeconds at now, and if not yet but ready, how long that
// still takes.
func IsAvailable(pod *corev1.Pod, minReadySeconds int32, now time.Time) (available bool, wait time.Duration) {
	c := Condition(pod, corev1.PodReady)
	if c == nil || c.Status != corev1.ConditionTrue {
		return false, 0
	}
	if minReadySeconds == 0 {
		return true, 0
	}
	if c.LastTransitionTime.IsZero() {
		return false, 0
	}
	left := c.LastTransitionTime.Add(time.Duration(minReadySeconds) * time.Second).Sub(now)
	return left <= 0, max(left, 0)
}

// IsFinished reports whether the pod's phase is final.
func IsFinished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// IsActive reports whether the pod counts as a replica: not finished, not being deleted.
func IsActive(pod *corev1.Pod) bool { return !IsFinished(pod) && pod.DeletionTimestamp == nil }

// Active keeps the active pods.
func Active(all []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(all), func(p *corev1.Pod) bool { return !IsActive(p) })
}

// IsTerminating reports whether the pod is being deleted and has not finished.
func IsTerminating(pod *corev1.Pod) bool { return !IsFinished(pod) && pod.DeletionTimestamp != nil }

// Restarts returns the highest restart count of the pod's containers.
func Restarts(pod *corev1.Pod) int32 {
	most := int32(0)
	for _, c := range pod.Status.ContainerStatuses {
		most = max(most, c.RestartCount)
	}
	return most
}

// FromTemplate makes the pod that a controller's template describes. The name is generated from prefix, cut so that the
// suffix fits.
func FromTemplate(template *corev1.PodTemplateSpec, namespace, prefix string, owner *metav1.OwnerReference) *corev1.Pod {
	copied := template.DeepCopy()
	generate := prefix + "-"
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, GenerateName: generate, Labels: copied.Labels, Annotations: copied.Annotations, Finalizers: copied.Finalizers,
		},
		Spec: copied.Spec,
	}
	if owner != nil {
		pod.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	return pod
}

// DeletionCost of a pod by its annotation, 0 without one.
func DeletionCost(pod *corev1.Pod) int32 {
	text, ok := pod.Annotations[corev1.PodDeletionCost]
	if !ok || strings.HasPrefix(text, "+") || (len(text) > 1 && text[0] == '0') {
		return 0
	}
	var cost int64
	negative := strings.HasPrefix(text, "-")
	for _, r := range strings.TrimPrefix(text, "-") {
		if r < '0' || r > '9' || cost > math.MaxInt32 {
			return 0
		}
		cost = cost*10 + int64(r-'0')
	}
	if negative {
		cost = -cost
	}
	if cost > math.MaxInt32 || cost < math.MinInt32 {
		return 0
	}
	return int32(cost)
}

// SortForDeletion orders pods so that those come first which a scale-down should delete first: not yet scheduled before
// scheduled, pending before unknown before running, not ready before ready, lower deletion cost, more related pods on
// the same node (rank), shorter ready, more restarts, younger. Times compare by magnitude (logarithmically), so that
// nearly equal ages don't pin the choice; ties go by UID.
func SortForDeletion(all []*corev1.Pod, rank func(*corev1.Pod) int, now time.Time) {
	slices.SortStableFunc(all, func(a, b *corev1.Pod) int {
		order := []int{
			truthFirst(a.Spec.NodeName == "", b.Spec.NodeName == ""),
			phaseOrder[a.Status.Phase] - phaseOrder[b.Status.Phase],
			truthFirst(!IsReady(a), !IsReady(b)),
			int(DeletionCost(a)) - int(DeletionCost(b)),
			rank(b) - rank(a),
			younger(readySince(a), readySince(b), now),
			int(Restarts(b)) - int(Restarts(a)),
			younger(a.CreationTimestamp.Time, b.CreationTimestamp.Time, now),
		}
		for _, o := range order {
			if o != 0 {
				return o
			}
		}
		return strings.Compare(string(a.UID), string(b.UID))
	})
}

var phaseOrder = map[corev1.PodPhase]int{corev1.PodPending: 0, corev1.PodUnknown: 1, corev1.PodRunning: 2}

func truthFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// readySince is when the pod became ready, zero when it is not.
func readySince(pod *corev1.Pod) time.Time {
	if c := Condition(pod, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

// younger orders the later time first, comparing ages by their order of magnitude.
func younger(a, b, now time.Time) int {
	return magnitude(a, now) - magnitude(b, now)
}

func magnitude(at, now time.Time) int {
	if at.IsZero() {
		return -1 // unknown counts as youngest
	}
	age := now.Sub(at)
	if age <= 0 {
		return 0
	}
	return int(math.Log2(float64(age)))
}
