// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/rules/pods"
	"kogge.dev/kogge/scheduler/core"
)

// evict carries out a preemption beside the loop. Until it is seen that every victim goes, the pod preempts nobody else.
func (s *Scheduler) evict(ctx context.Context, pod *core.Pod, preemption *core.Preemption) {
	s.config.Log.Info("preempting pods", "object", pod.Key(), "node", preemption.Node, "victims", len(preemption.Victims))
	s.evicting[pod.UID] = preemption.Victims
	s.yield(pod, preemption.Node)
	s.write(ctx, func(ctx context.Context) {
		var errs []error
		for _, victim := range preemption.Victims {
			errs = append(errs, s.evictOne(ctx, pod, victim, preemption.Node))
		}
		err := errors.Join(errs...)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.config.Log.Warn("preemption not carried out", "object", pod.Key(), "node", preemption.Node, "err", err)
		s.inbox.post(func() {
			delete(s.evicting, pod.UID)
			s.queue.Reconsider(pod.UID, time.Now())
		})
	})
}

// yield takes the nominations of less important pods to the node back: the room will be another's.
func (s *Scheduler) yield(pod *core.Pod, node string) {
	for _, other := range s.state.Snapshot().NominatedTo(node) {
		if other.Priority >= pod.Priority || other.UID == pod.UID {
			continue
		}
		s.state.Nominate(nil, other.UID, "")
		delete(s.evicting, other.UID)
		s.reports.yielded(other)
		s.queue.Reconsider(other.UID, time.Now())
	}
}

func (s *Scheduler) evictOne(ctx context.Context, pod, victim *core.Pod, node string) error {
	if c := pods.Condition(victim.Pod, corev1.DisruptionTarget); c == nil || c.Status != corev1.ConditionTrue {
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": victim.UID},
			"status": map[string]any{"conditions": []corev1.PodCondition{{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
				Message:            fmt.Sprintf("%s: preempting to accommodate a higher priority pod", pod.Spec.SchedulerName),
				LastTransitionTime: metav1.Now(), ObservedGeneration: victim.Generation,
			}}},
		})
		if err != nil {
			return err
		}
		if _, err := s.pods.Patch(ctx, victim.Namespace, victim.Name, types.StrategicMergePatchType, patch, "status"); err != nil {
			return client.IgnoreNotFound(err)
		}
	}
	err := s.pods.Delete(ctx, victim.Namespace, victim.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &victim.UID}})
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	s.config.Events.Event(victim.Pod, corev1.EventTypeNormal, "Preempted", "Preempted by pod %s on node %s", pod.UID, node)
	return nil
}

// stillEvicting reports whether victims of a pod's preemption are neither gone nor seen to be going.
func (s *Scheduler) stillEvicting(uid types.UID) bool {
	for _, victim := range s.evicting[uid] {
		if now := s.state.Assigned(victim.UID); now != nil && now.DeletionTimestamp == nil {
			return true
		}
	}
	delete(s.evicting, uid)
	return false
}
