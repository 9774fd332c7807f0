// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"encoding/json"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
	"kogge.dev/kogge/scheduler/core"
)

// noteLimit is the longest message of an Event, in bytes.
const noteLimit = 1024

// reportWorkers bounds the status writes that are under way at a time.
const reportWorkers = 8

// reports tells users why pods have no node: an Event each time, and the pod's condition when it changes. Only the
// newest report of a pod is written.
type reports struct {
	events *reconcile.Recorder
	pods   client.Resource[*corev1.Pod]
	view   *client.Informer[*corev1.Pod]
	loop   *reconcile.Loop

	mu     sync.Mutex
	latest map[types.NamespacedName]report
}

// report is what is to be said in a pod's status.
type report struct {
	uid             types.UID
	reason, message string
	nominated       string // node to nominate; empty leaves it
	clear           bool   // take the nomination back
}

func newReports(config Config, view *client.Informer[*corev1.Pod]) *reports {
	r := &reports{
		events: config.Events, pods: client.Of[*corev1.Pod](config.Client), view: view, latest: map[types.NamespacedName]report{},
	}
	r.loop = reconcile.New(reconcile.Config{Name: "scheduler-reports", Log: config.Log, Workers: reportWorkers, Reconcile: r.write})
	return r
}

// refused reports that a pod got no node.
func (r *reports) refused(pod *core.Pod, reason, message, nominated string, clearNomination bool) {
	note := message
	if len(note) > noteLimit {
		note = note[:noteLimit-4] + " ..."
	}
	r.events.EventAbout(r.events.Reference(pod.Pod), corev1.EventTypeWarning, "FailedScheduling", "%s", note)
	r.mu.Lock()
	r.latest[pod.Key()] = report{uid: pod.UID, reason: reason, message: message, nominated: nominated, clear: clearNomination}
	r.mu.Unlock()
	r.loop.Enqueue(pod.Key())
}

// write brings the pod's status to its newest report. It names the revision that it has seen, so that a report that was
// overtaken by a binding is refused instead of hiding it; then the newer view shows that there is nothing to say.
func (r *reports) write(ctx context.Context, key types.NamespacedName) error {
	r.mu.Lock()
	said, ok := r.latest[key]
	r.mu.Unlock()
	if !ok {
		return nil
	}
	pod, exists := r.view.Get(key.Namespace, key.Name)
	if exists && pod.UID == said.uid && pod.Spec.NodeName == "" {
		patch, err := said.patch(pod)
		if err == nil && patch != nil {
			_, err = r.pods.Patch(ctx, key.Namespace, key.Name, types.StrategicMergePatchType, patch, "status")
		}
		if client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	r.mu.Lock()
	if r.latest[key] == said {
		delete(r.latest, key)
	}
	r.mu.Unlock()
	return nil
}

// patch returns what to change in the pod's status, nil for nothing.
func (said report) patch(pod *corev1.Pod) ([]byte, error) {
	status := map[string]any{}
	old := pods.Condition(pod, corev1.PodScheduled)
	if old == nil || old.Status != corev1.ConditionFalse || old.Reason != said.reason || old.Message != said.message ||
		old.ObservedGeneration != pod.Generation {
		now := metav1.Now()
		since := now
		if old != nil && old.Status == corev1.ConditionFalse {
			since = old.LastTransitionTime
		}
		status["conditions"] = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: said.reason, Message: said.message,
			LastTransitionTime: since, ObservedGeneration: pod.Generation,
		}}
	}
	switch {
	case said.clear && pod.Status.NominatedNodeName != "":
		status["nominatedNodeName"] = nil
	case said.nominated != "" && pod.Status.NominatedNodeName != said.nominated:
		status["nominatedNodeName"] = said.nominated
	}
	if len(status) == 0 {
		return nil, nil
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion},
		"status":   status,
	})
}

// yielded takes a nomination back for the sake of a more important pod; the condition stays as it is.
func (r *reports) yielded(pod *core.Pod) {
	said := report{uid: pod.UID, clear: true}
	if c := pods.Condition(pod.Pod, corev1.PodScheduled); c != nil {
		said.reason, said.message = c.Reason, c.Message
	}
	r.mu.Lock()
	r.latest[pod.Key()] = said
	r.mu.Unlock()
	r.loop.Enqueue(pod.Key())
}
