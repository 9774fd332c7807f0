// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package quota charges new and growing objects to the resource quotas of their namespace, or refuses them.
package quota

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	rules "kogge.dev/kogge/rules/quota"
)

var quotas = schema.GroupResource{Resource: "resourcequotas"}

// stripes bounds how many namespaces are charged at the same time. Requests of one namespace charge one after another, which
// spares them the conflicts that they would make for each other; other API servers still may conflict.
const stripes = 64

// attempts is how often a charge is tried again after a conflict with another writer.
const attempts = 5

// Plugin is the admission plugin. It must be the last one: what comes after it could refuse what has been charged.
type Plugin struct {
	reader admission.Reader
	update Update
	seed   maphash.Seed
	locks  [stripes]sync.Mutex
}

// Update stores a quota's status if its resourceVersion is still the stored one, else it returns a Conflict error.
type Update func(ctx context.Context, quota *corev1.ResourceQuota) error

// New makes the plugin.
func New(reader admission.Reader, update Update) *Plugin {
	return &Plugin{reader: reader, update: update, seed: maphash.MakeSeed()}
}

// exempt are resources that quotas never count: events, virtual ones, and what makes up quotas' own bookkeeping.
func exempt(gr schema.GroupResource) bool {
	switch gr {
	case schema.GroupResource{Resource: "events"}, schema.GroupResource{Group: "events.k8s.io", Resource: "events"},
		schema.GroupResource{Resource: "bindings"}, schema.GroupResource{Group: "authorization.k8s.io", Resource: "localsubjectaccessreviews"}:
		return true
	}
	return false
}

// handles reports whether an operation can make an object count for more.
func handles(a *admission.Attributes) bool {
	if a.Namespace == "" || a.Object == nil || a.Resource.GroupResource() == quotas && a.Subresource != "" || exempt(a.Resource.GroupResource()) {
		return false
	}
	create, update := a.Operation == admission.Create, a.Operation == admission.Update
	if a.Resource.Group == "" {
		switch a.Resource.Resource {
		case "pods":
			if a.Subresource == "" && update {
				pod, ok1 := admission.Object[*corev1.Pod](a)
				old, ok2 := admission.Old[*corev1.Pod](a)
				return ok1 && ok2 && rules.Terminating(pod) != rules.Terminating(old)
			}
			return a.Subresource == "" && create || a.Subresource == "resize" && update
		case "services", "persistentvolumeclaims":
			return a.Subresource == "" && (create || update)
		}
	}
	if a.Resource.Group == "resource.k8s.io" && a.Resource.Resource == "resourceclaims" {
		return a.Subresource == "" && (create || update)
	}
	return a.Subresource == "" && create
}

// Validate implements admission.Validator.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	if !handles(a) {
		return nil
	}
	list, err := admission.List[*corev1.ResourceQuota](ctx, p.reader, quotas, a.Namespace)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if len(list) == 0 {
		return nil
	}
	lock := &p.locks[maphash.String(p.seed, a.Namespace)%stripes]
	lock.Lock()
	defer lock.Unlock()
	for _, q := range list {
		if err := p.charge(ctx, a, q); err != nil {
			return err
		}
	}
	return nil
}

// charge adds what the object uses to one quota. It works on the stored quota, not the cached one: the charge before this one may be newer
// than the cache.
func (p *Plugin) charge(ctx context.Context, a *admission.Attributes, q *corev1.ResourceQuota) error {
	for range attempts {
		grown, err := judge(a, q, time.Now())
		if err != nil || grown == nil {
			// A refusal must rest on the stored quota as well.
			if err == nil {
				return nil
			}
			fresh, found, readErr := admission.GetFresh[*corev1.ResourceQuota](ctx, p.reader, quotas, q.Namespace, q.Name)
			if readErr != nil || !found || fresh.ResourceVersion == q.ResourceVersion {
				return refusedUnlessGone(err, found, readErr)
			}
			q = fresh
			continue
		}
		if a.DryRun {
			return nil
		}
		err = p.update(ctx, grown)
		switch {
		case err == nil || apierrors.IsNotFound(err):
			return nil
		case !apierrors.IsConflict(err):
			return apierrors.NewInternalError(fmt.Errorf("charge quota %s: %w", q.Name, err))
		}
		fresh, found, err := admission.GetFresh[*corev1.ResourceQuota](ctx, p.reader, quotas, q.Namespace, q.Name)
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		if !found {
			return nil
		}
		q = fresh
	}
	return apierrors.NewConflict(quotas, q.Name, errors.New("the quota is updated too often by others, please try again"))
}

func refusedUnlessGone(refusal error, found bool, readErr error) error {
	if readErr == nil && !found {
		return nil
	}
	return refusal
}

// judge returns the quota with its usage raised by what the object adds, nil when the object adds nothing to it, or the refusal.
func judge(a *admission.Attributes, q *corev1.ResourceQuota, now time.Time) (*corev1.ResourceQuota, error) {
	e := rules.For(a.Resource.GroupResource())
	match, err := e.Matches(q, a.Object)
	if err != nil || !match {
		return nil, err
	}
	hard := rules.Names(q.Status.Hard)
	limited := e.Names(hard)
	if err := e.Constraints(limited, a.Object); err != nil {
		return nil, admission.Forbiddenf(a, "failed quota: %s: %w", q.Name, err)
	}
	for _, n := range limited {
		if _, known := q.Status.Used[n]; !known {
			return nil, admission.Forbiddenf(a, "status unknown for quota: %s, resources: %s", q.Name, rules.NamesText(limited))
		}
	}
	added := e.Usage(a.Object, now)
	if negative := rules.Negative(added); len(negative) > 0 {
		return nil, admission.Forbiddenf(a, "quota usage is negative for resource(s): %s", rules.NamesText(negative))
	}
	if a.Operation == admission.Update {
		if added, err = difference(a, e, q, added, now); err != nil {
			return nil, err
		}
	}
	requested := rules.Mask(rules.WithoutZeros(added), hard)
	if len(requested) == 0 {
		return nil, nil // the object adds nothing
	}
	used := rules.Add(q.Status.Used, requested)
	if over := rules.Exceeding(rules.Mask(used, rules.Names(requested)), q.Status.Hard); len(over) > 0 {
		return nil, admission.Forbiddenf(a, "exceeded quota: %s, requested: %s, used: %s, limited: %s", q.Name,
			rules.Text(rules.Mask(requested, over)), rules.Text(rules.Mask(q.Status.Used, over)), rules.Text(rules.Mask(q.Status.Hard, over)))
	}
	out := q.DeepCopy()
	out.Status.Used = used
	return out, nil
}

// difference is what an update adds to what the old object counted for already. An old object that the quota did not match counted for
// nothing.
func difference(a *admission.Attributes, e *rules.Evaluator, q *corev1.ResourceQuota, now corev1.ResourceList, at time.Time) (corev1.ResourceList, error) {
	if a.Old == nil {
		return nil, admission.Forbiddenf(a, "unable to get previous usage since prior version of object was not found")
	}
	old, err := meta.Accessor(a.Old)
	if err != nil || old.GetResourceVersion() == "" {
		return now, nil //nolint:nilerr // an object that was never stored counted for nothing
	}
	match, err := e.Matches(q, a.Old)
	if err != nil || !match {
		return now, err
	}
	return rules.Grown(now, e.Usage(a.Old, at)), nil
}
