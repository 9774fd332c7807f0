// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package deployment

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/internal/equal"
)

// Reasons of the Progressing and Available conditions.
const (
	updatedReason      = "ReplicaSetUpdated"
	newSetReason       = "NewReplicaSetCreated"
	foundSetReason     = "FoundNewReplicaSet"
	availableReason    = "NewReplicaSetAvailable"
	timedOutReason     = "ProgressDeadlineExceeded"
	pausedReason       = "DeploymentPaused"
	resumedReason      = "DeploymentResumed"
	failedCreateReason = "ReplicaSetCreateError"
	minimumReason      = "MinimumReplicasAvailable"
	belowMinimumReason = "MinimumReplicasUnavailable"
)

func condition(conditions []appsv1.DeploymentCondition, kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range conditions {
		if conditions[i].Type == kind {
			return &conditions[i]
		}
	}
	return nil
}

func newCondition(kind appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) appsv1.DeploymentCondition {
	now := metav1.Now()
	return appsv1.DeploymentCondition{Type: kind, Status: status, LastUpdateTime: now, LastTransitionTime: now, Reason: reason, Message: message}
}

// setCondition replaces the condition of a type unless status and reason stay; the transition time moves only with the
// status.
func setCondition(s *appsv1.DeploymentStatus, c appsv1.DeploymentCondition) {
	if known := condition(s.Conditions, c.Type); known != nil {
		if known.Status == c.Status && known.Reason == c.Reason {
			return
		}
		if known.Status == c.Status {
			c.LastTransitionTime = known.LastTransitionTime
		}
	}
	dropCondition(s, c.Type)
	s.Conditions = append(s.Conditions, c)
}

func dropCondition(s *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType) {
	var kept []appsv1.DeploymentCondition
	for _, c := range s.Conditions {
		if c.Type != kind {
			kept = append(kept, c)
		}
	}
	s.Conditions = kept
}

// complete reports whether every wanted replica is updated and available and no old one is left.
func complete(d *appsv1.Deployment, s *appsv1.DeploymentStatus) bool {
	want := *d.Spec.Replicas
	return s.UpdatedReplicas == want && s.Replicas == want && s.AvailableReplicas == want && s.ObservedGeneration >= d.Generation
}

// status adds up the ReplicaSets' statuses and sets the Available condition.
func (r *rollout) status() appsv1.DeploymentStatus {
	next := appsv1.DeploymentStatus{
		ObservedGeneration: r.d.Generation, CollisionCount: r.d.Status.CollisionCount,
		Conditions: append([]appsv1.DeploymentCondition(nil), r.d.Status.Conditions...),
	}
	for _, rs := range r.all() {
		next.Replicas += rs.Status.Replicas
		next.ReadyReplicas += rs.Status.ReadyReplicas
		next.AvailableReplicas += rs.Status.AvailableReplicas
	}
	if r.newest != nil {
		next.UpdatedReplicas = r.newest.Status.Replicas
	}
	next.UnavailableReplicas = max(0, sumSpec(r.all())-next.AvailableReplicas)
	terminating := r.terminating()
	next.TerminatingReplicas = &terminating
	_, unavailable := r.bounds()
	if next.AvailableReplicas >= *r.d.Spec.Replicas-unavailable {
		setCondition(&next, newCondition(appsv1.DeploymentAvailable, corev1.ConditionTrue, minimumReason, "Deployment has minimum availability."))
	} else {
		setCondition(&next, newCondition(appsv1.DeploymentAvailable, corev1.ConditionFalse, belowMinimumReason, "Deployment does not have minimum availability."))
	}
	return next
}

// progress sets the Progressing and ReplicaFailure conditions: complete, moving, or stuck for too long.
func (r *rollout) progress(next *appsv1.DeploymentStatus) {
	r.replicaFailure(next)
	if r.d.Spec.ProgressDeadlineSeconds == nil {
		dropCondition(next, appsv1.DeploymentProgressing)
		return
	}
	current := condition(r.d.Status.Conditions, appsv1.DeploymentProgressing)
	done := next.Replicas == next.UpdatedReplicas && current != nil && current.Reason == availableReason
	if done {
		return
	}
	name := func(text, plain string) string {
		if r.newest == nil {
			return plain
		}
		return fmt.Sprintf(text, "ReplicaSet", r.newest.Name)
	}
	switch {
	case complete(r.d, next):
		setCondition(next, newCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, availableReason,
			name("%s %q has successfully progressed.", fmt.Sprintf("Deployment %q has successfully progressed.", r.d.Name))))
	case r.moved(next):
		c := newCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, updatedReason,
			name("%s %q is progressing.", fmt.Sprintf("Deployment %q is progressing.", r.d.Name)))
		if current != nil {
			if current.Status == corev1.ConditionTrue {
				c.LastTransitionTime = current.LastTransitionTime
			}
			dropCondition(next, appsv1.DeploymentProgressing)
		}
		setCondition(next, c)
	case r.timedOut(current):
		setCondition(next, newCondition(appsv1.DeploymentProgressing, corev1.ConditionFalse, timedOutReason,
			name("%s %q has timed out progressing.", fmt.Sprintf("Deployment %q has timed out progressing.", r.d.Name))))
	}
}

// moved reports whether the status shows progress since the last one.
func (r *rollout) moved(next *appsv1.DeploymentStatus) bool {
	last := &r.d.Status
	return next.UpdatedReplicas > last.UpdatedReplicas || next.Replicas-next.UpdatedReplicas < last.Replicas-last.UpdatedReplicas ||
		next.ReadyReplicas > last.ReadyReplicas || next.AvailableReplicas > last.AvailableReplicas
}

func (r *rollout) timedOut(current *appsv1.DeploymentCondition) bool {
	if current == nil || r.d.Spec.Paused {
		return false
	}
	if current.Reason == availableReason {
		return false
	}
	if current.Reason == timedOutReason {
		return true
	}
	return time.Since(current.LastUpdateTime.Time) >= time.Duration(*r.d.Spec.ProgressDeadlineSeconds)*time.Second
}

// replicaFailure shows the first failure that any ReplicaSet reports.
func (r *rollout) replicaFailure(next *appsv1.DeploymentStatus) {
	for _, rs := range r.all() {
		for _, c := range rs.Status.Conditions {
			if c.Type != appsv1.ReplicaSetReplicaFailure {
				continue
			}
			setCondition(next, appsv1.DeploymentCondition{
				Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message,
				LastTransitionTime: c.LastTransitionTime, LastUpdateTime: c.LastTransitionTime,
			})
			return
		}
	}
	dropCondition(next, appsv1.DeploymentReplicaFailure)
}

func equalStatus(a, b *appsv1.DeploymentStatus) bool { return equal.Semantic(a, b) }
