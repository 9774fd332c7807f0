// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package resourcequota counts what a namespace uses into the status of its quotas. Admission raises the counts as objects
// are made; this loop counts anew when a quota's limits change, when objects change their use or go, and every few minutes:
// what was charged for an object that was not stored in the end is given back then.
package resourcequota

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/quota"
)

// lag is how much later than a quota's status is written admission may see it, at most.
const lag = time.Second

// settle is how long changes are gathered before a count.
const settle = 100 * time.Millisecond

// patience is how long a count waits for the first list of a resource before it leaves the resource out: admission refuses what is limited
// but left out, so the first use of a resource by a quota must not look like a list that never comes.
const patience = time.Second

// doubt is how long a count lower than what admission has charged must hold before it is believed.
const doubt = 500 * time.Millisecond

// resync is the longest time between two counts of a quota, upstream's ResourceQuotaSyncPeriod; each is up to a fifth earlier, so that the
// quotas of a cluster are not all counted at once.
const resync = 5 * time.Minute

type controller struct {
	reconcile.Scope
	loop   *reconcile.Loop
	quotas *client.Informer[*corev1.ResourceQuota]
	crds   *client.Informer[*apiextensionsv1.CustomResourceDefinition]
	api    client.Resource[*corev1.ResourceQuota]

	mu       sync.Mutex
	followed map[schema.GroupResource]following
	// counts tells of each quota until when objects were made that its count may lack.
	counts map[reconcile.Key]counted
	// lower holds counts below what admission has charged, until they are confirmed and written.
	lower map[reconcile.Key]finding
}

// following is what is known of a resource's objects.
type following struct {
	*client.Informer[kinds.Object]
	version string // that they are read at
	since   time.Time
}

// counted is a count of a quota that stands in its status: the first one of its present spec, or one that was lower than what stood there.
// What was made before it is not charged, or no more, should the count have lacked it; what is made later is admission's to charge.
type counted struct {
	uid  types.UID
	spec corev1.ResourceQuotaSpec
	at   time.Time
}

// finding is a count of a quota at one of its versions.
type finding struct {
	version string
	used    corev1.ResourceList
	at      time.Time
}

// New makes the loop. A resource is followed from the moment on that some quota counts it.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, quotas: client.InformerFor[*corev1.ResourceQuota](scope.Informers),
		crds: reconcile.Definitions(scope.Informers),
		api:  client.Of[*corev1.ResourceQuota](scope.Client), followed: map[schema.GroupResource]following{},
		counts: map[reconcile.Key]counted{}, lower: map[reconcile.Key]finding{},
	}
	c.loop = reconcile.New(reconcile.Config{
		Name: "resourcequota-controller", Log: scope.Log, Workers: 5, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	c.crds.Handle(client.Handler[*apiextensionsv1.CustomResourceDefinition]{
		Add:    c.define,
		Update: func(_, crd *apiextensionsv1.CustomResourceDefinition) { c.redefine(crd) },
		Delete: c.undefine,
	})
	// A status that admission has raised is no reason to count: the object that it was raised for may not be stored yet, and
	// a count without it would let another one in. One that others gave limits of its own is.
	c.quotas.Handle(client.Handler[*corev1.ResourceQuota]{
		Add: func(q *corev1.ResourceQuota) { c.loop.Enqueue(reconcile.KeyOf(q)) },
		Update: func(old, q *corev1.ResourceQuota) {
			if !equal.Semantic(old.Spec, q.Spec) || !equal.Semantic(q.Spec.Hard, q.Status.Hard) {
				c.loop.Enqueue(reconcile.KeyOf(q))
			}
		},
		Delete: func(q *corev1.ResourceQuota) { c.loop.Enqueue(reconcile.KeyOf(q)) }, // what is known of it goes
	})
	return c.loop
}

// changed enqueues the quotas of a namespace, or of all when it is empty, that count a resource.
func (c *controller) changed(gr schema.GroupResource, namespace string) {
	c.enqueue(gr, namespace, func(*corev1.ResourceQuota) bool { return true })
}

// added enqueues the quotas whose count may lack an object that admission does not charge to them any more: one that was made before the
// count was written, and that this informer had not seen by then. A quota counts itself, and is one of them.
func (c *controller) added(gr schema.GroupResource, obj kinds.Object) {
	made := obj.GetCreationTimestamp()
	c.enqueue(gr, obj.GetNamespace(), func(q *corev1.ResourceQuota) bool {
		at, ok := c.last(q)
		return !ok || !made.After(at.Add(lag))
	})
}

// last returns when the count was written that later objects are charged on top of; not ok when there is none of the present spec, or when
// it is about to be lowered.
func (c *controller) last(q *corev1.ResourceQuota) (at time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := reconcile.KeyOf(q)
	known := c.counts[key]
	_, doubted := c.lower[key]
	return known.at, !doubted && known.uid == q.UID && equal.Semantic(known.spec, q.Spec)
}

// note keeps that a count of a quota stands in its status from now on.
func (c *controller) note(q *corev1.ResourceQuota) {
	if _, known := c.last(q); known {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := reconcile.KeyOf(q)
	c.counts[key] = counted{uid: q.UID, spec: q.Spec, at: time.Now()}
	delete(c.lower, key)
}

// enqueue enqueues the quotas of a namespace that count a resource, and that are concerned.
func (c *controller) enqueue(gr schema.GroupResource, namespace string, concerned func(*corev1.ResourceQuota) bool) {
	for _, q := range c.quotas.List(namespace) {
		if concerned(q) && len(quota.For(gr).Names(quota.Names(q.Spec.Hard))) > 0 {
			c.loop.EnqueueAfter(reconcile.KeyOf(q), settle)
		}
	}
}

// follow returns the informer of a resource; not ok when nothing serves it.
func (c *controller) follow(gr schema.GroupResource) (f following, ok bool) {
	f, fresh := c.followedOrNew(gr)
	if fresh {
		f.Handle(client.Handler[kinds.Object]{
			Add:    func(obj kinds.Object) { c.added(gr, obj) },
			Update: func(old, obj kinds.Object) { c.updated(gr, old, obj) },
			Delete: func(last kinds.Object) { c.changed(gr, last.GetNamespace()) },
			Synced: func() { c.changed(gr, "") }, // counts left it out until now
		})
	}
	return f, f.Informer != nil
}

// followedOrNew returns what is known of a resource; fresh when it is to be handled from now on.
func (c *controller) followedOrNew(gr schema.GroupResource) (f following, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.followed[gr]; ok {
		return known, false
	}
	api, ok := c.resource(gr)
	if !ok {
		return following{}, false
	}
	f = following{Informer: client.InformerOf(c.Informers, api), version: api.GVR().Version, since: time.Now()}
	c.followed[gr] = f
	return f, true
}

// define counts again what was counted as nothing as long as no definition was known.
func (c *controller) define(crd *apiextensionsv1.CustomResourceDefinition) {
	c.changed(schema.GroupResource{Group: crd.Spec.Group, Resource: crd.Spec.Names.Plural}, "")
}

// redefine counts again what another version serves now, or what is served at all: the one that was followed may be gone.
func (c *controller) redefine(crd *apiextensionsv1.CustomResourceDefinition) {
	c.mu.Lock()
	f, ok := c.followed[schema.GroupResource{Group: crd.Spec.Group, Resource: crd.Spec.Names.Plural}]
	c.mu.Unlock()
	if ok && reconcile.ServedVersion(crd, f.version) == f.version {
		return
	}
	c.undefine(crd)
	c.define(crd)
}

// undefine stops following the objects of a definition that is gone.
func (c *controller) undefine(crd *apiextensionsv1.CustomResourceDefinition) {
	gr := schema.GroupResource{Group: crd.Spec.Group, Resource: crd.Spec.Names.Plural}
	c.mu.Lock()
	f, ok := c.followed[gr]
	delete(c.followed, gr)
	c.mu.Unlock()
	if ok {
		client.Drop(c.Informers, f.Informer)
	}
}

// updated counts again only when the object's use changed: pods change their status all the time.
func (c *controller) updated(gr schema.GroupResource, old, obj kinds.Object) {
	e, now := quota.For(gr), time.Now()
	if !equal.Semantic(e.Usage(old, now), e.Usage(obj, now)) {
		c.changed(gr, obj.GetNamespace())
	}
}

func (c *controller) resource(gr schema.GroupResource) (client.Resource[kinds.Object], bool) {
	if kind := c.Client.Catalog().ByGroupResource(gr); kind != nil {
		return client.Any(c.Client, kind), kind.Namespaced && kind.Allows("watch")
	}
	for crd := range c.crds.All() {
		if crd.Spec.Group != gr.Group || crd.Spec.Names.Plural != gr.Resource || crd.Spec.Scope != apiextensionsv1.NamespaceScoped {
			continue
		}
		if version := reconcile.ServedVersion(crd, ""); version != "" {
			return client.At[kinds.Object](c.Client, gr.WithVersion(version), func() kinds.Object { return &unstructured.Unstructured{} }), true
		}
	}
	return client.Resource[kinds.Object]{}, false
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	q, ok := c.quotas.Get(key.Namespace, key.Name)
	if !ok {
		c.mu.Lock()
		delete(c.lower, key)
		delete(c.counts, key)
		c.mu.Unlock()
		return nil
	}
	used, again, err := c.count(q)
	if err != nil {
		return err
	}
	if wait := c.confirm(key, q, used); wait > 0 {
		return reconcile.After(wait)
	}
	next := q.DeepCopy()
	next.Status.Hard, next.Status.Used = q.Spec.Hard.DeepCopy(), used
	if !equal.Semantic(q.Status, next.Status) {
		if _, err := c.api.UpdateStatus(ctx, next); err != nil {
			return client.IgnoreNotFound(err)
		}
	}
	c.note(q)
	if again > 0 {
		return reconcile.After(again)
	}
	return reconcile.After(resync - rand.N(resync/5))
}

// confirm returns how long to wait before a count may be written that is lower than what admission has charged. Admission
// charges an object before it is stored, so a view that lags shows too few; a count is believed when it stays the same for
// a while in which nothing was charged.
func (c *controller) confirm(key reconcile.Key, q *corev1.ResourceQuota, used corev1.ResourceList) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	fewer := false
	for name, charged := range q.Status.Used {
		if now, counted := used[name]; counted && now.Cmp(charged) < 0 {
			fewer = true
		}
	}
	if !fewer {
		delete(c.lower, key)
		return 0
	}
	known, ok := c.lower[key]
	if !ok || known.version != q.ResourceVersion || !equal.Semantic(known.used, used) {
		c.lower[key] = finding{version: q.ResourceVersion, used: used, at: time.Now()}
		return doubt
	}
	return doubt - time.Since(known.at)
}

// count adds up the namespace's objects; again says when time alone will change the result. What can't be counted yet keeps its count, or
// has none, and does not hold up the rest: a list may never come, of custom resources whose conversion fails, say.
func (c *controller) count(q *corev1.ResourceQuota) (used corev1.ResourceList, again time.Duration, err error) {
	names := quota.Names(q.Spec.Hard)
	used = corev1.ResourceList{}
	var pending []corev1.ResourceName
	seen := map[schema.GroupResource]bool{}
	for _, name := range names {
		gr, ok := quota.GroupResourceOf(name)
		if !ok || seen[gr] {
			continue
		}
		seen[gr] = true
		f, served := c.follow(gr)
		if !served {
			continue
		}
		e := quota.For(gr)
		select {
		case <-f.Synced():
		default:
			if wait := patience - time.Since(f.since); wait > 0 {
				return nil, 0, reconcile.After(wait)
			}
			pending = append(pending, e.Names(names)...)
			continue
		}
		part, wait, err := sum(q, e, f.List(q.Namespace))
		if err != nil {
			return nil, 0, err
		}
		used, again = quota.Add(used, part), max(again, wait)
	}
	used = quota.Mask(used, names)
	for _, name := range names {
		if slices.Contains(pending, name) {
			delete(used, name)
			if before, ok := q.Status.Used[name]; ok {
				used[name] = before
			}
		} else if _, ok := used[name]; !ok {
			zero := q.Spec.Hard[name].DeepCopy()
			zero.Set(0)
			used[name] = zero
		}
	}
	return used, again, nil
}

// sum adds up the objects of one resource.
func sum(q *corev1.ResourceQuota, e *quota.Evaluator, objects []kinds.Object) (used corev1.ResourceList, again time.Duration, err error) {
	now := time.Now()
	used = corev1.ResourceList{}
	for _, obj := range objects {
		matches, err := e.Matches(q, obj)
		if err != nil {
			return nil, 0, err
		}
		if !matches {
			continue
		}
		used = quota.Add(used, e.Usage(obj, now))
		if pod, is := obj.(*corev1.Pod); is && pod.DeletionTimestamp != nil && quota.PodActive(pod, now) {
			again = time.Second // its grace period ends without an event
		}
	}
	return used, again, nil
}
