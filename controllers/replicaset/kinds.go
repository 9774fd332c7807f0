// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/internal/equal"
)

func readReplicaSet(rs *appsv1.ReplicaSet) (set, error) {
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	s := set{object: rs, replicas: 1, minReadySeconds: rs.Spec.MinReadySeconds, selector: selector, template: &rs.Spec.Template}
	if rs.Spec.Replicas != nil {
		s.replicas = *rs.Spec.Replicas
	}
	for _, c := range rs.Status.Conditions {
		if c.Type == appsv1.ReplicaSetReplicaFailure {
			s.status.failure = &failure{reason: c.Reason, message: c.Message}
		}
	}
	return s, err
}

func updateReplicaSet(rs *appsv1.ReplicaSet, s status) (*appsv1.ReplicaSet, bool) {
	next := rs.DeepCopy()
	next.Status.Replicas, next.Status.FullyLabeledReplicas = s.replicas, s.labeled
	next.Status.ReadyReplicas, next.Status.AvailableReplicas = s.ready, s.available
	next.Status.TerminatingReplicas, next.Status.ObservedGeneration = s.terminating, s.observed
	kept := next.Status.Conditions[:0]
	present := false
	for _, c := range next.Status.Conditions {
		if c.Type != appsv1.ReplicaSetReplicaFailure {
			kept = append(kept, c)
		} else if s.failure != nil && c.Reason == s.failure.reason {
			kept, present = append(kept, c), true
		}
	}
	next.Status.Conditions = kept
	if s.failure != nil && !present {
		next.Status.Conditions = append(next.Status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
			Reason: s.failure.reason, Message: s.failure.message,
		})
	}
	return next, !equal.Semantic(rs.Status, next.Status)
}

func readReplication(rc *corev1.ReplicationController) (set, error) {
	s := set{
		object: rc, replicas: 1, minReadySeconds: rc.Spec.MinReadySeconds,
		selector: labels.Set(rc.Spec.Selector).AsSelectorPreValidated(), template: rc.Spec.Template,
	}
	if len(rc.Spec.Selector) == 0 {
		s.selector = labels.Nothing()
	}
	if rc.Spec.Replicas != nil {
		s.replicas = *rc.Spec.Replicas
	}
	for _, c := range rc.Status.Conditions {
		if c.Type == corev1.ReplicationControllerReplicaFailure {
			s.status.failure = &failure{reason: c.Reason, message: c.Message}
		}
	}
	return s, nil
}

func updateReplication(rc *corev1.ReplicationController, s status) (*corev1.ReplicationController, bool) {
	next := rc.DeepCopy()
	next.Status.Replicas, next.Status.FullyLabeledReplicas = s.replicas, s.labeled
	next.Status.ReadyReplicas, next.Status.AvailableReplicas, next.Status.ObservedGeneration = s.ready, s.available, s.observed
	kept := next.Status.Conditions[:0]
	present := false
	for _, c := range next.Status.Conditions {
		if c.Type != corev1.ReplicationControllerReplicaFailure {
			kept = append(kept, c)
		} else if s.failure != nil && c.Reason == s.failure.reason {
			kept, present = append(kept, c), true
		}
	}
	next.Status.Conditions = kept
	if s.failure != nil && !present {
		next.Status.Conditions = append(next.Status.Conditions, corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerReplicaFailure, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
			Reason: s.failure.reason, Message: s.failure.message,
		})
	}
	return next, !equal.Semantic(rc.Status, next.Status)
}
