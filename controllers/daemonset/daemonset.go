// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package daemonset runs one pod of a DaemonSet on every node that it fits, and rolls changes of its template out node by
// node.
package daemonset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
)

// burst is how many pods one reconcile creates or deletes at the most.
const burst = 250

var kind = appsv1.SchemeGroupVersion.WithKind("DaemonSet")

type controller struct {
	reconcile.Scope
	loop      *reconcile.Loop
	sets      *client.Informer[*appsv1.DaemonSet]
	pods      *client.Informer[*corev1.Pod]
	nodes     *client.Informer[*corev1.Node]
	revisions *client.Informer[*appsv1.ControllerRevision]
	api       client.Resource[*appsv1.DaemonSet]
	podAPI    client.Resource[*corev1.Pod]
	history   client.Resource[*appsv1.ControllerRevision]
	expected  reconcile.Expectations

	mu sync.Mutex
	// failures delay the replacement of pods that fail at once, by DaemonSet and node.
	failures map[string]retry
}

// retry is the back-off of one DaemonSet on one node.
type retry struct {
	delay time.Duration
	until time.Time
}

// Bounds of that back-off, upstream's.
const (
	firstRetry = time.Second
	lastRetry  = 15 * time.Minute
)

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, failures: map[string]retry{},
		sets: client.InformerFor[*appsv1.DaemonSet](scope.Informers), pods: client.InformerFor[*corev1.Pod](scope.Informers),
		nodes:     client.InformerFor[*corev1.Node](scope.Informers),
		revisions: client.InformerFor[*appsv1.ControllerRevision](scope.Informers),
		api:       client.Of[*appsv1.DaemonSet](scope.Client), podAPI: client.Of[*corev1.Pod](scope.Client),
		history: client.Of[*appsv1.ControllerRevision](scope.Client),
	}
	c.loop = reconcile.New(reconcile.Config{
		Name: "daemon-set-controller", Log: scope.Log, Workers: 2, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	reconcile.IndexControllers(c.pods)
	reconcile.IndexControllers(c.revisions)
	reconcile.Self(c.loop, c.sets)
	reconcile.Owner(c.loop, c.revisions, kind.Kind)
	reconcile.Dependents(c.loop, c.pods, &c.expected, kind.Kind, c.adopters)
	every := func() {
		for ds := range c.sets.All() {
			c.loop.Enqueue(reconcile.KeyOf(ds))
		}
	}
	c.nodes.Handle(client.Handler[*corev1.Node]{
		Add: func(*corev1.Node) { every() }, Delete: func(*corev1.Node) { every() },
		Update: func(old, node *corev1.Node) {
			for ds := range c.sets.All() {
				oldRun, oldKeep := fits(ds, old)
				run, keep := fits(ds, node)
				if oldRun != run || oldKeep != keep {
					c.loop.Enqueue(reconcile.KeyOf(ds))
				}
			}
		},
	})
	return c.loop
}

// adopters returns the DaemonSets that select a pod without a controller.
func (c *controller) adopters(pod *corev1.Pod) []reconcile.Key {
	var keys []reconcile.Key
	for _, ds := range c.sets.List(pod.Namespace) {
		if s, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector); err == nil && !s.Empty() && s.Matches(labels.Set(pod.Labels)) {
			keys = append(keys, reconcile.KeyOf(ds))
		}
	}
	return keys
}

// run is one reconcile of one DaemonSet.
type run struct {
	*controller
	ds  *appsv1.DaemonSet
	key reconcile.Key
	// hash labels the pods of the current template; old are the past revisions, oldest first.
	hash    string
	current *appsv1.ControllerRevision
	old     []*appsv1.ControllerRevision
	// byNode holds the DaemonSet's pods by the node that they run on or are meant for.
	byNode map[string][]*corev1.Pod
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	ds, ok := c.sets.Get(key.Namespace, key.Name)
	if !ok {
		c.expected.Forget(key)
		return nil
	}
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil {
		return reconcile.Terminal(fmt.Errorf("selector of %s: %w", key, err))
	}
	if selector.Empty() {
		c.Events.Event(ds, corev1.EventTypeWarning, "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required.")
		return nil
	}
	if ds.DeletionTimestamp != nil {
		return nil
	}
	r := &run{controller: c, ds: ds, key: key}
	if err := r.revise(ctx); err != nil {
		return err
	}
	claim := reconcile.Claim[*corev1.Pod]{
		Owner: ds, Kind: kind, Selector: selector, Objects: c.podAPI,
		Fresh: func(ctx context.Context) (kinds.Object, error) { return c.api.Get(ctx, key.Namespace, key.Name) },
	}
	owned, err := claim.All(ctx, reconcile.OwnedBy(c.pods, ds))
	if err != nil {
		return err
	}
	r.byNode = map[string][]*corev1.Pod{}
	for _, pod := range owned {
		node := targetNode(pod)
		r.byNode[node] = append(r.byNode[node], pod)
	}
	var errs []error
	if c.expected.Fulfilled(key) {
		errs = append(errs, r.manage(ctx))
		if ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType && c.expected.Fulfilled(key) {
			errs = append(errs, r.roll(ctx))
		}
		errs = append(errs, r.truncate(ctx))
	}
	wait, err := r.report(ctx)
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	if wait > 0 {
		return reconcile.After(wait)
	}
	return nil
}

// manage makes the pods that are missing, replaces failed ones, and deletes those that are too much.
func (r *run) manage(ctx context.Context) error {
	var create []string
	var remove []*corev1.Pod
	var again time.Duration
	for node := range r.nodes.All() {
		shouldRun, shouldStay := fits(r.ds, node)
		present := r.byNode[node.Name]
		switch {
		case shouldRun && len(present) == 0:
			create = append(create, node.Name)
		case shouldStay:
			doomed, wait := r.replaceable(node.Name, present)
			remove = append(remove, doomed...)
			if wait > 0 && (again == 0 || wait < again) {
				again = wait
			}
		default:
			remove = append(remove, living(present)...)
		}
	}
	for name, present := range r.byNode {
		if _, ok := r.nodes.Get("", name); name != "" && !ok {
			remove = append(remove, living(present)...)
		}
	}
	slices.Sort(create)
	err := errors.Join(r.delete(ctx, remove[:min(len(remove), burst)]), r.create(ctx, create[:min(len(create), burst)]))
	if again > 0 {
		r.loop.EnqueueAfter(r.key, again)
	}
	return err
}

// replaceable returns which pods of a node that keeps the daemon must go: failed and finished ones, within the back-off,
// and all but the oldest of several.
func (r *run) replaceable(node string, present []*corev1.Pod) (doomed []*corev1.Pod, wait time.Duration) {
	var healthy []*corev1.Pod
	for _, pod := range present {
		switch {
		case pod.DeletionTimestamp != nil:
		case pod.Status.Phase == corev1.PodFailed:
			if wait = r.backoff(node); wait > 0 {
				continue
			}
			r.Events.Event(r.ds, corev1.EventTypeWarning, "FailedDaemonPod", "Found failed daemon pod %s/%s on node %s, will try to kill it", pod.Namespace, pod.Name, node)
			doomed = append(doomed, pod)
		case pod.Status.Phase == corev1.PodSucceeded:
			r.Events.Event(r.ds, corev1.EventTypeNormal, "SucceededDaemonPod", "Found succeeded daemon pod %s/%s on node %s, will try to delete it", pod.Namespace, pod.Name, node)
			doomed = append(doomed, pod)
		default:
			healthy = append(healthy, pod)
		}
	}
	if r.ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType && surge(r.ds, 1) > 0 {
		return append(doomed, r.surplusWithSurge(healthy)...), wait
	}
	slices.SortFunc(healthy, oldestFirst)
	if len(healthy) > 1 {
		doomed = append(doomed, healthy[1:]...)
	}
	return doomed, wait
}

// surplusWithSurge keeps the oldest pod of the old and of the new template, and the old one only until the new is available.
func (r *run) surplusWithSurge(healthy []*corev1.Pod) []*corev1.Pod {
	var doomed []*corev1.Pod
	kept := map[bool]*corev1.Pod{}
	slices.SortFunc(healthy, oldestFirst)
	for _, pod := range healthy {
		isNew := r.isCurrent(pod)
		if kept[isNew] != nil {
			doomed = append(doomed, pod)
			continue
		}
		kept[isNew] = pod
	}
	if kept[true] != nil && kept[false] != nil {
		if available, _ := pods.IsAvailable(kept[true], r.ds.Spec.MinReadySeconds, time.Now()); available {
			doomed = append(doomed, kept[false])
		}
	}
	return doomed
}

// oldestFirst prefers pods that are bound, then older ones.
func oldestFirst(a, b *corev1.Pod) int {
	if (a.Spec.NodeName != "") != (b.Spec.NodeName != "") {
		if a.Spec.NodeName != "" {
			return -1
		}
		return 1
	}
	if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

func living(all []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(all), func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

// backoff returns how long the next replacement on a node has to wait, and doubles the time after.
func (r *run) backoff(node string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := string(r.ds.UID) + "/" + node
	now := time.Now()
	known, ok := r.failures[id]
	if ok && now.Before(known.until) {
		return known.until.Sub(now)
	}
	delay := firstRetry
	if ok && now.Sub(known.until) < 2*lastRetry {
		delay = min(2*known.delay, lastRetry)
	}
	r.failures[id] = retry{delay: delay, until: now.Add(delay)}
	return 0
}

func (r *run) create(ctx context.Context, nodes []string) error {
	r.expected.ExpectCreates(r.key, len(nodes))
	owner := metav1.NewControllerRef(r.ds, kind)
	for batch := 1; len(nodes) > 0; batch *= 2 {
		batch = min(batch, len(nodes))
		var wg sync.WaitGroup
		errs := make(chan error, batch)
		for _, node := range nodes[:batch] {
			wg.Go(func() { errs <- r.createOn(ctx, node, owner) })
		}
		wg.Wait()
		close(errs)
		nodes = nodes[batch:]
		for err := range errs {
			if err != nil {
				for range nodes {
					r.expected.Created(r.key)
				}
				return err
			}
		}
	}
	return nil
}

func (r *run) createOn(ctx context.Context, node string, owner *metav1.OwnerReference) error {
	pod := podFor(r.ds, node, r.hash, owner)
	created, err := r.podAPI.Create(ctx, pod)
	if err == nil {
		r.Events.Event(r.ds, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", created.Name)
		return nil
	}
	r.expected.Created(r.key)
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	r.Events.Event(r.ds, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
	return err
}

func (r *run) delete(ctx context.Context, doomed []*corev1.Pod) error {
	var errs []error
	for _, pod := range doomed {
		r.expected.ExpectDeletes(r.key, pod.UID)
		err := r.podAPI.Delete(ctx, pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
		if err == nil {
			r.Events.Event(r.ds, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", pod.Name)
			continue
		}
		r.expected.Deleted(r.key, pod.UID)
		if !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			r.Events.Event(r.ds, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// isCurrent reports whether a pod was made from the current template.
func (r *run) isCurrent(pod *corev1.Pod) bool {
	return pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == r.hash ||
		(pod.Labels[appsv1.DeprecatedTemplateGeneration] != "" && r.hash == "")
}
