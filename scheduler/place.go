// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/scheduler/core"
)

// askAgain is how long to wait before asking once more what became of a binding whose answer was lost.
const askAgain = time.Second

// place carries out a decision: what its plan says, then the binding. The pod stays counted on the node until it is
// certain that it was not bound there, so that a lost answer never leads to a node with more pods than it has room for.
func (s *Scheduler) place(ctx context.Context, pod *core.Pod, decision core.Decision) {
	err := s.prepare(ctx, pod, decision.Plan)
	bound := false
	if err == nil {
		err = s.bind(ctx, pod, decision.Node)
		bound = err == nil || s.wasBound(ctx, pod, err)
	}
	if ctx.Err() != nil && err != nil {
		return
	}
	if bound {
		s.config.Events.Event(pod.Pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, decision.Node)
		s.inbox.post(func() { s.queue.Drop(pod.UID) })
		return
	}
	s.inbox.post(func() {
		s.moved(s.state.Forget(pod.UID, decision.Plan))
		if !s.queue.Has(pod.UID) {
			return
		}
		s.queue.Retry(pod.UID, time.Now())
		if live, ok := s.podView.Get(pod.Namespace, pod.Name); ok && live.UID == pod.UID {
			s.putPod(live) // what changed while it was assumed was passed over
		}
		if apierrors.IsNotFound(err) {
			return // gone; the watch will say so
		}
		s.config.Log.Warn("pod not bound", "object", pod.Key(), "node", decision.Node, "err", err)
		s.reports.refused(pod, corev1.PodReasonSchedulerError, err.Error(), "", false)
	})
}

func (s *Scheduler) bind(ctx context.Context, pod *core.Pod, node string) error {
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}
	if _, err := s.pods.Post(ctx, pod.Namespace, pod.Name, "binding", binding); err != nil {
		return fmt.Errorf("binding rejected: %w", err)
	}
	return nil
}

// wasBound asks the API whether a binding that gave an error took place nevertheless. It asks until it knows.
func (s *Scheduler) wasBound(ctx context.Context, pod *core.Pod, cause error) bool {
	if apierrors.IsNotFound(cause) {
		return false
	}
	for {
		live, err := s.pods.Get(ctx, pod.Namespace, pod.Name)
		switch {
		case err == nil:
			return live.UID == pod.UID && live.Spec.NodeName != ""
		case apierrors.IsNotFound(err):
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(askAgain):
		}
	}
}
