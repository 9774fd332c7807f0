// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package podgc removes pods that nobody will finish: those of nodes that are gone, those on nodes declared out of
// service, those deleted before they were scheduled, and the oldest finished ones beyond a threshold.
package podgc

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
)

// Upstream's settings.
const (
	threshold  = 12500            // finished pods kept
	period     = 20 * time.Second // between looks while something waits
	quarantine = 40 * time.Second // a node must be gone this long before its pods are removed
)

type controller struct {
	reconcile.Scope
	pods  *client.Informer[*corev1.Pod]
	nodes *client.Informer[*corev1.Node]
	api   client.Resource[*corev1.Pod]
	nodeR client.Resource[*corev1.Node]
	// missing says since when a node that pods name was not there. Only the loop's single worker uses it.
	missing map[string]time.Time
}

var everything = reconcile.Key{Name: "cluster"}

// New makes the loop. It has one key, the cluster, and looks when a node goes, when a pod finishes or is deleted, and
// every 20 s while a quarantine runs.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, pods: client.InformerFor[*corev1.Pod](scope.Informers), nodes: client.InformerFor[*corev1.Node](scope.Informers),
		api: client.Of[*corev1.Pod](scope.Client), nodeR: client.Of[*corev1.Node](scope.Client), missing: map[string]time.Time{},
	}
	loop := reconcile.New(reconcile.Config{Name: "pod-garbage-collector", Log: scope.Log, Informers: scope.Informers, Reconcile: c.reconcile})
	wake := func() { loop.EnqueueAfter(everything, time.Second) }
	c.nodes.Handle(client.Handler[*corev1.Node]{
		Add: func(node *corev1.Node) {
			if outOfService(node) {
				wake()
			}
		},
		Delete: func(*corev1.Node) { wake() },
		Update: func(_, node *corev1.Node) {
			if outOfService(node) {
				wake()
			}
		},
	})
	seen := func(old, pod *corev1.Pod) {
		bound, deleted := pod.Spec.NodeName != old.Spec.NodeName, pod.DeletionTimestamp != nil && old.DeletionTimestamp == nil
		if bound || deleted || pods.IsFinished(pod) && !pods.IsFinished(old) {
			if c.concerns(pod) {
				wake()
			}
		}
	}
	c.pods.Handle(client.Handler[*corev1.Pod]{Add: func(pod *corev1.Pod) { seen(&corev1.Pod{}, pod) }, Update: seen})
	loop.Enqueue(everything)
	return loop
}

// concerns reports whether a pod is one to remove, now or after a while.
func (c *controller) concerns(pod *corev1.Pod) bool {
	if pod.Spec.NodeName == "" {
		return pod.DeletionTimestamp != nil || pods.IsFinished(pod)
	}
	node, ok := c.nodes.Get("", pod.Spec.NodeName)
	return !ok || pods.IsFinished(pod) || pod.DeletionTimestamp != nil && outOfService(node)
}

func (c *controller) reconcile(ctx context.Context, _ reconcile.Key) error {
	var errs []error
	var finished []*corev1.Pod
	waiting := false
	seen := map[string]bool{}
	for pod := range c.pods.All() {
		node, known := c.nodes.Get("", pod.Spec.NodeName)
		switch {
		case pod.Spec.NodeName == "" && pod.DeletionTimestamp != nil:
			errs = append(errs, c.remove(ctx, pod, ""))
		case pod.Spec.NodeName != "" && !known:
			seen[pod.Spec.NodeName] = true
			gone, err := c.nodeGone(ctx, pod.Spec.NodeName)
			errs = append(errs, err)
			if gone {
				errs = append(errs, c.remove(ctx, pod, "PodGC: node no longer exists"))
			}
			waiting = waiting || !gone
		case known && outOfService(node) && !nodeReady(node) && pod.DeletionTimestamp != nil:
			errs = append(errs, c.remove(ctx, pod, ""))
		case pods.IsFinished(pod):
			finished = append(finished, pod)
		}
	}
	for name := range c.missing {
		if !seen[name] {
			delete(c.missing, name)
		}
	}
	if over := len(finished) - threshold; over > 0 {
		slices.SortFunc(finished, func(a, b *corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
		for _, pod := range finished[:over] {
			errs = append(errs, c.remove(ctx, pod, ""))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if waiting {
		return reconcile.After(period)
	}
	return nil
}

// nodeGone reports whether a node has been missing for the quarantine and is missing in a fresh read too.
func (c *controller) nodeGone(ctx context.Context, name string) (bool, error) {
	since, known := c.missing[name]
	if !known {
		c.missing[name] = time.Now()
		return false, nil
	}
	if time.Since(since) < quarantine {
		return false, nil
	}
	_, err := c.nodeR.Get(ctx, "", name)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return false, err
}

// remove marks an unfinished pod as failed, with the reason when there is one, and deletes it without grace: no kubelet
// will confirm.
func (c *controller) remove(ctx context.Context, pod *corev1.Pod, why string) error {
	if !pods.IsFinished(pod) {
		status := map[string]any{"phase": corev1.PodFailed}
		if why != "" {
			status["conditions"] = []corev1.PodCondition{{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC", Message: why,
				LastTransitionTime: metav1.Now(), ObservedGeneration: pod.Generation,
			}}
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
		if err != nil {
			return err
		}
		if _, err := c.api.Patch(ctx, pod.Namespace, pod.Name, types.StrategicMergePatchType, patch, "status"); err != nil {
			if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
				return nil
			}
			return err
		}
	}
	err := c.api.Delete(ctx, pod.Namespace, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func outOfService(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

func nodeReady(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
