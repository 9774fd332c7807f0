// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package job runs pods until enough of them have succeeded.
//
// Pods carry a finalizer, so that none vanishes before it is counted. Counting is a protocol of two writes: a finished pod's
// UID goes into status.uncountedTerminatedPods; then its finalizer is removed; then the UID leaves the list and the count
// goes up. A restart at any point counts every pod exactly once.
package job

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/reconcile"
)

var kind = batchv1.SchemeGroupVersion.WithKind("Job")

// burst bounds how many pods one reconcile creates or deletes.
const burst = 500

type controller struct {
	reconcile.Scope
	loop     *reconcile.Loop
	jobs     *client.Informer[*batchv1.Job]
	pods     *client.Informer[*corev1.Pod]
	api      client.Resource[*batchv1.Job]
	podAPI   client.Resource[*corev1.Pod]
	expected reconcile.Expectations

	mu      sync.Mutex
	records map[reconcile.Key]*record
}

// record is what this loop has done about a Job and the views may not show yet.
type record struct {
	// released holds the UIDs of its pods whose finalizer is removed but still shown by the view: they are counted.
	released map[types.UID]struct{}
	// written is the version of the last status that this loop wrote, or 0. An older view of the Job must not be acted on: the pods that its
	// counts lack may be released already.
	written uint64
}

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, records: map[reconcile.Key]*record{},
		jobs: client.InformerFor[*batchv1.Job](scope.Informers), pods: client.InformerFor[*corev1.Pod](scope.Informers),
		api: client.Of[*batchv1.Job](scope.Client), podAPI: client.Of[*corev1.Pod](scope.Client),
	}
	c.loop = reconcile.New(reconcile.Config{
		Name: "job-controller", Log: scope.Log, Workers: 5, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	reconcile.IndexControllers(c.pods)
	reconcile.Self(c.loop, c.jobs)
	c.pods.Handle(client.Handler[*corev1.Pod]{
		Add: func(pod *corev1.Pod) { c.podSeen(nil, pod) }, Update: c.podSeen, Delete: c.podGone,
	})
	return c.loop
}

func (c *controller) podSeen(old, pod *corev1.Pod) {
	key, owned := reconcile.OwnerKey(pod, kind.Kind)
	if owned && !tracked(pod) {
		c.forget(key, pod.UID)
	}
	if !owned {
		if tracked(pod) {
			c.orphan(pod)
		}
		if old != nil {
			if oldKey, had := reconcile.OwnerKey(old, kind.Kind); had {
				c.forget(oldKey, pod.UID)
				c.loop.Enqueue(oldKey)
			}
		}
		return
	}
	if old == nil {
		c.expected.Created(key) // be it that it goes already
	}
	if pod.DeletionTimestamp != nil && (old == nil || old.DeletionTimestamp == nil) {
		c.expected.Deleted(key, pod.UID)
	}
	if _, ok := c.jobs.Get(key.Namespace, key.Name); !ok && tracked(pod) {
		c.orphan(pod)
		return
	}
	c.loop.Enqueue(key)
}

func (c *controller) podGone(pod *corev1.Pod) {
	if key, owned := reconcile.OwnerKey(pod, kind.Kind); owned {
		c.forget(key, pod.UID)
		c.expected.Deleted(key, pod.UID)
		c.loop.Enqueue(key)
		return
	}
	c.loop.Enqueue(c.expected.Gone(pod.UID)...) // adopted since it was seen last
}

// orphan asks for the release of a pod whose Job is gone; the key names the pod by a prefix that no Job can have.
func (c *controller) orphan(pod *corev1.Pod) {
	c.loop.Enqueue(reconcile.Key{Namespace: orphanPrefix + pod.Namespace, Name: pod.Name})
}

const orphanPrefix = "orphan of "

// recordLocked returns the record of a Job, made on first use.
func (c *controller) recordLocked(key reconcile.Key) *record {
	r := c.records[key]
	if r == nil {
		r = &record{released: map[types.UID]struct{}{}}
		c.records[key] = r
	}
	return r
}

// forget drops what is noted of a pod: the view shows that it is released, or it was not released after all.
func (c *controller) forget(key reconcile.Key, uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.records[key]; r != nil {
		delete(r.released, uid)
	}
}

// tracked reports whether a pod still carries the finalizer.
func tracked(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	if namespace, orphaned := cutPrefix(key.Namespace); orphaned {
		return c.freeOrphan(ctx, namespace, key.Name)
	}
	known, ok := c.jobs.Get(key.Namespace, key.Name)
	if !ok {
		c.expected.Forget(key)
		return c.freeLeft(ctx, key)
	}
	if c.outdated(known) {
		return nil // seeing what was written wakes the loop
	}
	if known.Spec.ManagedBy != nil && *known.Spec.ManagedBy != batchv1.JobControllerName {
		return nil
	}
	if finished(known) && !hasUncounted(known) {
		return c.releaseAll(ctx, known)
	}
	selector, err := metav1.LabelSelectorAsSelector(known.Spec.Selector)
	if err != nil {
		return reconcile.Terminal(fmt.Errorf("selector of %s: %w", key, err))
	}
	claim := reconcile.Claim[*corev1.Pod]{
		Owner: known, Kind: kind, Selector: selector, Objects: c.podAPI,
		Fresh: func(ctx context.Context) (kinds.Object, error) { return c.api.Get(ctx, key.Namespace, key.Name) },
	}
	// Before the view is read: what it shows later may be forgotten between the two, and a pod that was read before would count twice.
	released := c.released(key)
	owned, err := claim.All(ctx, reconcile.OwnedBy(c.pods, known))
	if err != nil {
		return err
	}
	s := newRound(c, known.DeepCopy(), key, owned, released)
	return s.run(ctx)
}

// version orders the states of one Job.
func version(job *batchv1.Job) uint64 {
	n, err := strconv.ParseUint(job.ResourceVersion, 10, 64)
	if err != nil {
		return math.MaxUint64 // not comparable: act on what is there
	}
	return n
}

func (c *controller) outdated(job *batchv1.Job) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.records[reconcile.KeyOf(job)]
	return r != nil && version(job) < r.written
}

func (c *controller) noteWritten(job *batchv1.Job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := version(job); n != math.MaxUint64 {
		c.recordLocked(reconcile.KeyOf(job)).written = n
	}
}

func cutPrefix(namespace string) (string, bool) {
	if len(namespace) > len(orphanPrefix) && namespace[:len(orphanPrefix)] == orphanPrefix {
		return namespace[len(orphanPrefix):], true
	}
	return namespace, false
}

func hasUncounted(job *batchv1.Job) bool {
	u := job.Status.UncountedTerminatedPods
	return u != nil && (len(u.Failed) > 0 || len(u.Succeeded) > 0)
}

// freeOrphan removes the finalizer from a pod that no Job will count.
func (c *controller) freeOrphan(ctx context.Context, namespace, name string) error {
	pod, ok := c.pods.Get(namespace, name)
	if !ok || !tracked(pod) {
		return nil
	}
	key, owned := reconcile.OwnerKey(pod, kind.Kind)
	if !owned {
		return c.release(ctx, pod)
	}
	if known, ok := c.jobs.Get(key.Namespace, key.Name); ok && known.UID == metav1.GetControllerOf(pod).UID {
		return nil
	}
	job, err := c.api.Get(ctx, key.Namespace, key.Name)
	if err == nil && job.UID == metav1.GetControllerOf(pod).UID {
		return reconcile.Unseen()
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return c.free(ctx, key, pod)
}

// freeLeft frees the pods of a Job that is gone. Its record goes once the view shows them free; each that becomes so wakes the loop.
func (c *controller) freeLeft(ctx context.Context, key reconcile.Key) error {
	var errs []error
	released, left := c.released(key), false
	for _, pod := range c.pods.List(key.Namespace) {
		if owner, owned := reconcile.OwnerKey(pod, kind.Kind); !owned || owner != key || !tracked(pod) {
			continue
		}
		left = true
		if _, free := released[pod.UID]; !free {
			errs = append(errs, c.freeOrphan(ctx, pod.Namespace, pod.Name))
		}
	}
	if !left {
		c.mu.Lock()
		delete(c.records, key)
		c.mu.Unlock()
	}
	return errors.Join(errs...)
}

// releaseAll frees the pods of a finished Job.
func (c *controller) releaseAll(ctx context.Context, job *batchv1.Job) error {
	var errs []error
	key := reconcile.KeyOf(job)
	released := c.released(key) // before the view is read, as in reconcile
	for _, pod := range reconcile.Controlled(c.pods, job) {
		if _, free := released[pod.UID]; tracked(pod) && !free {
			errs = append(errs, c.free(ctx, key, pod))
		}
	}
	return errors.Join(errs...)
}

// released are the pods of a Job whose finalizer is removed, as far as the view has not shown it.
func (c *controller) released(key reconcile.Key) map[types.UID]struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.records[key]; r != nil {
		return maps.Clone(r.released)
	}
	return nil
}

// free releases a pod of a Job. The pod is noted before, since the view may show it at once.
func (c *controller) free(ctx context.Context, key reconcile.Key, pod *corev1.Pod) error {
	c.mu.Lock()
	c.recordLocked(key).released[pod.UID] = struct{}{}
	c.mu.Unlock()
	err := c.release(ctx, pod)
	if err != nil {
		c.forget(key, pod.UID)
	}
	return err
}

// release removes the finalizer.
func (c *controller) release(ctx context.Context, pod *corev1.Pod) error {
	patch := fmt.Sprintf(`{"metadata":{"uid":%q,"$deleteFromPrimitiveList/finalizers":[%q]}}`, pod.UID, batchv1.JobTrackingFinalizer)
	_, err := c.podAPI.Patch(ctx, pod.Namespace, pod.Name, types.StrategicMergePatchType, []byte(patch))
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("release pod %s: %w", pod.Name, err)
	}
	return nil
}

// finished reports whether the Job has a final condition.
func finished(job *batchv1.Job) bool {
	return isTrue(job, batchv1.JobComplete) || isTrue(job, batchv1.JobFailed)
}

func condition(job *batchv1.Job, kind batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range job.Status.Conditions {
		if job.Status.Conditions[i].Type == kind {
			return &job.Status.Conditions[i]
		}
	}
	return nil
}

func isTrue(job *batchv1.Job, kind batchv1.JobConditionType) bool {
	c := condition(job, kind)
	return c != nil && c.Status == corev1.ConditionTrue
}

// setCondition adds or changes a condition and reports whether that changed anything.
func setCondition(job *batchv1.Job, kind batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string) bool {
	now := metav1.Now()
	if c := condition(job, kind); c != nil {
		if c.Status == status && c.Reason == reason && c.Message == message {
			return false
		}
		if c.Status != status {
			c.LastTransitionTime = now
		}
		c.Status, c.Reason, c.Message, c.LastProbeTime = status, reason, message, now
		return true
	}
	job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{
		Type: kind, Status: status, Reason: reason, Message: message, LastProbeTime: now, LastTransitionTime: now,
	})
	return true
}

// podFailed reports whether a pod counts as failed: its phase says so, or it is being deleted before it finished and its
// replacement need not wait for its end.
func podFailed(job *batchv1.Job, pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodFailed {
		return true
	}
	return !replaceOnlyFailed(job) && pod.DeletionTimestamp != nil && pod.Status.Phase != corev1.PodSucceeded
}

func replaceOnlyFailed(job *batchv1.Job) bool {
	return (job.Spec.PodReplacementPolicy != nil && *job.Spec.PodReplacementPolicy == batchv1.Failed) || job.Spec.PodFailurePolicy != nil
}

func indexed(job *batchv1.Job) bool {
	return job.Spec.CompletionMode != nil && *job.Spec.CompletionMode == batchv1.IndexedCompletion
}
