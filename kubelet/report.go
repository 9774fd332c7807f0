// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/rules/pods"
)

// reporter brings a pod's status to the API server: only what changed, and only the newest. It has a goroutine only while
// something is to be reported.
type reporter struct {
	w *worker

	mu      sync.Mutex
	busy    bool
	pending *report
	// sent is what the API server has as far as known; nil before the first report.
	sent *corev1.PodStatus
	// version of the object after the last report.
	version uint64
	gone    bool // the pod was deleted
}

type report struct {
	pod    *corev1.Pod
	status *corev1.PodStatus
	// clean is set when the pod holds nothing of the node any more: if it is being deleted, it may go.
	clean bool
}

// set takes the newest status.
func (r *reporter) set(ctx context.Context, p *corev1.Pod, status *corev1.PodStatus, clean bool) {
	if r.w.k.client == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	remove := clean && p.DeletionTimestamp != nil && !r.w.static
	// What is on its way is not sent yet, and what will be known then is compared then.
	known := !r.busy && r.sent != nil && !r.overruledLocked(p) && equal.Semantic(r.sent, status)
	if r.gone || known && !remove {
		return
	}
	r.pending = &report{pod: p, status: status, clean: clean}
	if !r.busy {
		r.busy = true
		r.w.ops.Go(func() { r.run(ctx) })
	}
}

// overruledLocked reports whether somebody else has changed a condition since it was reported: the node lifecycle controller does while it
// does not hear of the node, and leaves it to the kubelet to say that the pod is ready again.
func (r *reporter) overruledLocked(p *corev1.Pod) bool {
	if r.sent == nil || r.w.static || versionOf(p) < r.version {
		return false
	}
	for i := range r.sent.Conditions {
		own := &r.sent.Conditions[i]
		if now := pods.Condition(p, own.Type); now == nil || now.Status != own.Status {
			return true
		}
	}
	return false
}

// versionOf is the resourceVersion as the number that it is (KEP-5504); 0 for none.
func versionOf(p *corev1.Pod) uint64 {
	n, err := strconv.ParseUint(p.ResourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (r *reporter) run(ctx context.Context) {
	delay := 100 * time.Millisecond
	for {
		r.mu.Lock()
		next := r.pending
		r.pending = nil
		if next == nil || r.gone || ctx.Err() != nil {
			r.busy = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		err := r.send(ctx, next)
		if err == nil {
			delay = 100 * time.Millisecond
			continue
		}
		if ctx.Err() == nil {
			r.w.log.Warn("pod status can't be reported", "err", err)
		}
		r.mu.Lock()
		if r.pending == nil {
			r.pending = next
		}
		r.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
		delay = min(2*delay, 10*time.Second)
	}
}

// send patches the status and, once the pod is clean, deletes the object for good.
func (r *reporter) send(ctx context.Context, next *report) error {
	p := next.pod
	if r.w.static {
		mirror, ok := r.w.k.mirrorOf(p)
		if !ok {
			return nil // it is made first; the status is sent again when it appears
		}
		p = mirror
	}
	r.mu.Lock()
	base, version := r.sent, r.version
	if base == nil || r.overruledLocked(p) {
		base = &p.Status
	}
	r.mu.Unlock()
	api := client.Of[*corev1.Pod](r.w.k.client)
	patch, err := statusPatch(p.UID, base, next.status)
	if err != nil {
		return err
	}
	if patch != nil {
		now, err := api.Patch(ctx, p.Namespace, p.Name, types.StrategicMergePatchType, patch, "status")
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return r.stop() // deleted, or another pod has the name now
		}
		if err != nil {
			return err
		}
		version = versionOf(now)
	}
	r.mu.Lock()
	r.sent, r.version = next.status, version
	r.mu.Unlock()
	if !next.clean || p.DeletionTimestamp == nil || r.w.static {
		return nil
	}
	zero := int64(0)
	err = api.Delete(ctx, p.Namespace, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &p.UID}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return err
	}
	return r.stop()
}

func (r *reporter) stop() error {
	if r.w.static {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	return nil
}

// again forgets what was sent, because the object was replaced.
func (r *reporter) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent, r.gone = nil, false
}

// statusPatch returns the strategic merge patch between two statuses; nil if they are equal.
func statusPatch(uid types.UID, from, to *corev1.PodStatus) ([]byte, error) {
	if equal.Semantic(from, to) {
		return nil, nil
	}
	a, err := json.Marshal(&corev1.Pod{Status: *from})
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}, Status: *to}) // the uid makes it a precondition
	if err != nil {
		return nil, err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(a, b, corev1.Pod{})
	if err != nil {
		return nil, err
	}
	return patch, nil
}
