// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package replicaset keeps as many pods running as a ReplicaSet, or its forerunner the ReplicationController, asks for.
// The two kinds differ only in their Go types; Kind adapts them to one loop.
package replicaset

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
)

// burst is how many pods one reconcile creates or deletes at the most.
const burst = 500

// set is what the loop knows of a ReplicaSet or ReplicationController.
type set struct {
	object          kinds.Object
	replicas        int32
	minReadySeconds int32
	selector        labels.Selector
	template        *corev1.PodTemplateSpec
	status          status
}

// status is the part of both kinds' statuses that the loop computes.
type status struct {
	replicas, labeled, ready, available int32
	terminating                         *int32
	observed                            int64
	failure                             *failure
}

// failure is the ReplicaFailure condition, nil when all is well.
type failure struct{ reason, message string }

// kind adapts one Go type.
type kind[T kinds.Object] struct {
	gvk    schema.GroupVersionKind
	read   func(T) (set, error)
	update func(T, status) (T, bool) // returns a changed copy, and whether anything changed
}

// controller is one of the two loops.
type controller[T kinds.Object] struct {
	reconcile.Scope
	kind[T]
	loop     *reconcile.Loop
	sets     *client.Informer[T]
	pods     *client.Informer[*corev1.Pod]
	setAPI   client.Resource[T]
	podAPI   client.Resource[*corev1.Pod]
	expected reconcile.Expectations
}

// New makes the loop for ReplicaSets.
func New(scope reconcile.Scope) *reconcile.Loop {
	return newLoop(scope, "replicaset-controller", kind[*appsv1.ReplicaSet]{
		gvk: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), read: readReplicaSet, update: updateReplicaSet,
	})
}

// NewReplication makes the loop for ReplicationControllers.
func NewReplication(scope reconcile.Scope) *reconcile.Loop {
	return newLoop(scope, "replication-controller", kind[*corev1.ReplicationController]{
		gvk: corev1.SchemeGroupVersion.WithKind("ReplicationController"), read: readReplication, update: updateReplication,
	})
}

func newLoop[T kinds.Object](scope reconcile.Scope, name string, k kind[T]) *reconcile.Loop {
	c := &controller[T]{
		Scope: scope, kind: k,
		sets: client.InformerFor[T](scope.Informers), pods: client.InformerFor[*corev1.Pod](scope.Informers),
		setAPI: client.Of[T](scope.Client), podAPI: client.Of[*corev1.Pod](scope.Client),
	}
	c.loop = reconcile.New(reconcile.Config{
		Name: name, Log: scope.Log, Workers: 5, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	reconcile.IndexControllers(c.pods)
	reconcile.Self(c.loop, c.sets)
	reconcile.Dependents(c.loop, c.pods, &c.expected, k.gvk.Kind, c.adopters)
	return c.loop
}

// adopters returns the sets that select a pod without a controller.
func (c *controller[T]) adopters(pod *corev1.Pod) []reconcile.Key {
	var keys []reconcile.Key
	for _, obj := range c.sets.List(pod.Namespace) {
		if s, err := c.read(obj); err == nil && s.selector.Matches(labels.Set(pod.Labels)) {
			keys = append(keys, reconcile.KeyOf(obj))
		}
	}
	return keys
}

// reconcile brings one set's pods to the wanted number and reports.
func (c *controller[T]) reconcile(ctx context.Context, key reconcile.Key) error {
	obj, ok := c.sets.Get(key.Namespace, key.Name)
	if !ok {
		c.expected.Forget(key)
		return nil
	}
	s, err := c.read(obj)
	if err != nil {
		return reconcile.Terminal(fmt.Errorf("selector of %s: %w", key, err))
	}
	act := c.expected.Fulfilled(key) && s.object.GetDeletionTimestamp() == nil
	claim := reconcile.Claim[*corev1.Pod]{
		Owner: obj, Kind: c.gvk, Selector: s.selector, Objects: c.podAPI, Adoptable: pods.IsActive,
		Fresh: func(ctx context.Context) (kinds.Object, error) { return c.setAPI.Get(ctx, key.Namespace, key.Name) },
	}
	owned, err := claim.All(ctx, reconcile.OwnedBy(c.pods, obj))
	if err != nil {
		return err
	}
	active := pods.Active(owned)
	var manageErr error
	if act {
		manageErr = c.manage(ctx, key, s, active)
	}
	next, wait := c.compute(s, owned, active, manageErr, int(s.replicas)-len(active))
	if !act {
		next.failure = s.status.failure // nothing was tried, so nothing is known to be better
	}
	if changed, differs := c.update(obj, next); differs {
		if _, err := c.setAPI.UpdateStatus(ctx, changed); err != nil && !apierrors.IsNotFound(err) {
			return errors.Join(manageErr, fmt.Errorf("status of %s: %w", key, err))
		}
	}
	if manageErr != nil {
		return manageErr
	}
	if wait > 0 {
		return reconcile.After(wait)
	}
	return nil
}

// manage creates what is missing or deletes what is too much.
func (c *controller[T]) manage(ctx context.Context, key reconcile.Key, s set, active []*corev1.Pod) error {
	diff := len(active) - int(s.replicas)
	switch {
	case diff < 0:
		return c.create(ctx, key, s, min(-diff, burst))
	case diff > 0:
		return c.remove(ctx, key, s, active, min(diff, burst))
	}
	return nil
}

// create makes n pods in batches of 1, 2, 4, ...: a template that is refused costs one request, not n.
func (c *controller[T]) create(ctx context.Context, key reconcile.Key, s set, n int) error {
	c.expected.ExpectCreates(key, n)
	owner := metav1.NewControllerRef(s.object, c.gvk)
	for batch := 1; n > 0; batch *= 2 {
		batch = min(batch, n)
		err := concurrently(batch, func() error {
			pod, err := c.podAPI.Create(ctx, pods.FromTemplate(s.template, key.Namespace, key.Name, owner))
			if err != nil {
				c.expected.Created(key)
				if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
					c.Events.Event(s.object, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
				}
				return err
			}
			c.Events.Event(s.object, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", pod.Name)
			return nil
		})
		n -= batch
		if err != nil {
			for range n {
				c.expected.Created(key)
			}
			if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				return nil // nothing can be made here any more
			}
			return err
		}
	}
	return nil
}

func (c *controller[T]) remove(ctx context.Context, key reconcile.Key, s set, active []*corev1.Pod, n int) error {
	perNode := map[string]int{}
	for _, pod := range c.related(s) {
		perNode[pod.Spec.NodeName]++
	}
	pods.SortForDeletion(active, func(p *corev1.Pod) int { return perNode[p.Spec.NodeName] }, time.Now())
	doomed := active[:n]
	for _, pod := range doomed {
		c.expected.ExpectDeletes(key, pod.UID)
	}
	next := make(chan *corev1.Pod, n)
	for _, pod := range doomed {
		next <- pod
	}
	return concurrently(n, func() error {
		pod := <-next
		err := c.podAPI.Delete(ctx, pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
		if err == nil {
			c.Events.Event(s.object, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", pod.Name)
			return nil
		}
		c.expected.Deleted(key, pod.UID)
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil
		}
		c.Events.Event(s.object, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
		return err
	})
}

// related returns the active pods of all sets with the same controller (the ReplicaSets of one Deployment), or of this
// one alone: a node with many of them gives up its pod first.
func (c *controller[T]) related(s set) []*corev1.Pod {
	owner := metav1.GetControllerOf(s.object)
	if owner == nil {
		return pods.Active(reconcile.Controlled(c.pods, s.object))
	}
	var all []*corev1.Pod
	for _, sibling := range c.sets.List(s.object.GetNamespace()) {
		if ref := metav1.GetControllerOf(sibling); ref != nil && ref.UID == owner.UID {
			all = append(all, pods.Active(reconcile.Controlled(c.pods, sibling))...)
		}
	}
	return all
}

// compute returns the status, and after how long a ready pod will become available.
func (c *controller[T]) compute(s set, owned, active []*corev1.Pod, manageErr error, diff int) (status, time.Duration) {
	next := status{observed: s.object.GetGeneration(), replicas: int32(len(active)), failure: s.status.failure}
	terminating := int32(0)
	for _, pod := range owned {
		if pods.IsTerminating(pod) {
			terminating++
		}
	}
	next.terminating = &terminating
	wanted := labels.Set(s.template.Labels).AsSelectorPreValidated()
	var soonest time.Duration
	now := time.Now()
	for _, pod := range active {
		if wanted.Matches(labels.Set(pod.Labels)) {
			next.labeled++
		}
		if !pods.IsReady(pod) {
			continue
		}
		next.ready++
		available, wait := pods.IsAvailable(pod, s.minReadySeconds, now)
		if available {
			next.available++
		} else if soonest == 0 || wait < soonest {
			soonest = wait
		}
	}
	switch {
	case manageErr != nil && diff > 0:
		next.failure = &failure{reason: "FailedCreate", message: manageErr.Error()}
	case manageErr != nil:
		next.failure = &failure{reason: "FailedDelete", message: manageErr.Error()}
	default:
		next.failure = nil
	}
	return next, soonest
}

// concurrently runs n calls side by side and returns the first error.
func concurrently(n int, f func() error) error {
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for range n {
		wg.Go(func() {
			if err := f(); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}
