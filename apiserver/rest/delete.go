// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
)

// deleteNamed deletes the object that a request names.
func (e *Engine) deleteNamed(ctx context.Context, c *Call) (*Result, error) {
	if lasting := c.Target.Kind.Lasting; lasting != nil {
		if reason := lasting(c.Name); reason != "" {
			return nil, apierrors.NewForbidden(c.Target.GVR.GroupResource(), c.Name, errors.New(reason))
		}
	}
	return e.delete(ctx, c)
}

func (e *Engine) delete(ctx context.Context, c *Call) (*Result, error) {
	opts := &metav1.DeleteOptions{}
	if c.Delete != nil {
		opts = c.Delete.DeepCopy()
	}
	opts.IgnoreStoreReadErrorWithClusterBreakingPotential = nil
	if err := validateDelete(opts); err != nil {
		return nil, err
	}
	opts.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("DeleteOptions"))
	if c.Target.Kind.OrphanByDefault && c.Target.GVR.Group == "batch" && opts.PropagationPolicy == nil && opts.OrphanDependents == nil {
		warn(ctx, orphansWarning)
	}
	copied := *c
	copied.Delete = opts
	c = &copied
	d := &deletion{engine: e, call: c}
	key := c.Target.key(c.namespace(), c.Name)
	w, err := e.transact(ctx, c, key, d.step)
	if err != nil {
		return nil, err
	}
	if d.immediate && !c.dryRun() {
		marked, err := w.object(c.Target)
		if err != nil {
			return nil, err
		}
		switch removed, err := e.transact(ctx, c, key, removeStored(c, marked)); {
		case apierrors.IsNotFound(err):
			w.removed = true // by somebody who saw the mark: a kubelet removes its pods so
		case err != nil:
			return nil, err
		default:
			w = removed
		}
	}
	return d.answer(w)
}

func validateDelete(opts *metav1.DeleteOptions) error {
	if errs := metavalidation.ValidateDeleteOptions(opts); len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
	}
	return nil
}

// removeStored is the step that removes what marked a deletion without a period. What another writer made of the object meanwhile goes
// too; another object of the name stays.
func removeStored(c *Call, marked kinds.Object) step {
	return func(_ context.Context, old kinds.Object) (*outcome, error) {
		if old == nil || old.GetUID() != marked.GetUID() {
			return nil, apierrors.NewNotFound(c.Target.GVR.GroupResource(), c.Name)
		}
		return &outcome{remove: true}, nil
	}
}

// orphansWarning is for those who delete jobs without a word about their pods, which most other kinds take along.
const orphansWarning = "child pods are preserved by default when jobs are deleted; " +
	"set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning"

// deletion is the state of one delete request.
type deletion struct {
	engine *Engine
	call   *Call
	// immediate is set when the object, once it is marked as deleted, goes without waiting for anybody.
	immediate bool
	// admitted is set when admission has judged what the deletion follows from.
	admitted bool
}

// step decides what a delete does to the object as it is.
func (d *deletion) step(ctx context.Context, old kinds.Object) (*outcome, error) {
	c, e := d.call, d.engine
	if old == nil {
		return nil, apierrors.NewNotFound(c.Target.GVR.GroupResource(), c.Name)
	}
	if err := d.preconditions(old); err != nil {
		return nil, err
	}
	if !d.admitted {
		a := e.attributes(ctx, c, admission.Delete, nil, old)
		if c.Verb == client.DeleteCollection {
			a.Name = "" // The request names none: plugins see which object is meant by what it was.
		}
		if err := e.admit(ctx, a); err != nil {
			return nil, err
		}
	}
	now := metav1.Now().Rfc3339Copy()
	if isNamespace(c.Target) {
		if out := deleteNamespace(c, old, now); out != nil {
			return out, nil
		}
	}
	obj := old.DeepCopyObject().(kinds.Object)
	if begin := c.Target.Kind.BeginDelete; begin != nil && old.GetDeletionTimestamp() == nil {
		begin(obj, now)
		return &outcome{obj: obj}, nil
	}
	opts := c.Delete.DeepCopy() // The period may be completed per try.
	if s := opts.GracePeriodSeconds; s != nil && *s < 0 {
		one := int64(1)
		opts.GracePeriodSeconds = &one
	}
	graceful, pending := d.grace(obj, opts, now)
	if pending {
		return &outcome{keep: true}, nil
	}
	garbageFinalizers(c.Target, obj, opts)
	waiting := len(obj.GetFinalizers()) > 0
	switch {
	case graceful:
		// Without a period, nobody has to act on the object any more: it goes at once. Watchers see the mark first, as upstream's do.
		d.immediate = !waiting && *opts.GracePeriodSeconds == 0
		return &outcome{obj: obj, remove: d.immediate && c.dryRun()}, nil
	case waiting:
		markDeleting(obj, now)
		return &outcome{obj: obj}, nil
	default:
		return &outcome{remove: true}, nil
	}
}

func (d *deletion) preconditions(old kinds.Object) error {
	p := d.call.Delete.Preconditions
	if p == nil {
		return nil
	}
	gr := schema.GroupResource{Group: d.call.Target.GVR.Group, Resource: d.call.Target.Served.Kind}
	if p.UID != nil && *p.UID != old.GetUID() {
		return apierrors.NewConflict(gr, old.GetName(), fmt.Errorf(
			"the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *p.UID, old.GetUID(),
		))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != old.GetResourceVersion() {
		return apierrors.NewConflict(gr, old.GetName(), fmt.Errorf(
			"the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified",
			*p.ResourceVersion, old.GetResourceVersion(),
		))
	}
	return nil
}

// grace applies the grace period to obj. pending means that a deletion is under way already and nothing changes.
func (d *deletion) grace(obj kinds.Object, opts *metav1.DeleteOptions, now metav1.Time) (graceful, pending bool) {
	if d.call.Target.Kind.GracePeriod == nil {
		return false, false
	}
	if obj.GetDeletionTimestamp() != nil {
		return shorten(obj, opts, now)
	}
	seconds, graceful := d.call.Target.Kind.GracePeriod(obj, opts)
	if !graceful {
		return false, false
	}
	opts.GracePeriodSeconds = &seconds
	at := metav1.NewTime(now.Add(time.Duration(seconds) * time.Second))
	obj.SetDeletionTimestamp(&at)
	obj.SetDeletionGracePeriodSeconds(&seconds)
	if obj.GetGeneration() > 0 {
		obj.SetGeneration(obj.GetGeneration() + 1)
	}
	return true, false
}

// shorten moves a running deletion's end forward; it can't be moved back.
func shorten(obj kinds.Object, opts *metav1.DeleteOptions, now metav1.Time) (graceful, pending bool) {
	have := obj.GetDeletionGracePeriodSeconds()
	if have == nil || *have == 0 {
		return false, false
	}
	if opts.GracePeriodSeconds == nil || *opts.GracePeriodSeconds >= *have {
		return false, true
	}
	seconds := *opts.GracePeriodSeconds
	at := metav1.NewTime(obj.GetDeletionTimestamp().Add(time.Duration(seconds-*have) * time.Second))
	if at.Before(&now) {
		at = now
		if seconds != 0 {
			seconds = 1 // The period is over, but somebody else is still to make the final delete.
		}
	}
	obj.SetDeletionTimestamp(&at)
	obj.SetDeletionGracePeriodSeconds(&seconds)
	opts.GracePeriodSeconds = &seconds
	return true, false
}

// markDeleting sets the deletion time of an object that waits for its finalizers.
func markDeleting(obj kinds.Object, now metav1.Time) {
	if obj.GetDeletionTimestamp() == nil && obj.GetGeneration() > 0 {
		obj.SetGeneration(obj.GetGeneration() + 1)
	}
	if t := obj.GetDeletionTimestamp(); t == nil || t.After(now.Time) {
		obj.SetDeletionTimestamp(&now)
	}
	zero := int64(0)
	obj.SetDeletionGracePeriodSeconds(&zero)
}

// garbageFinalizers sets the finalizers by which the garbage collector learns what to do with dependents.
func garbageFinalizers(t *Target, obj metav1.Object, opts *metav1.DeleteOptions) {
	if !collectable(t) {
		return
	}
	orphan, foreground := propagation(t, obj, opts)
	var next []string
	for _, f := range obj.GetFinalizers() {
		if f != metav1.FinalizerOrphanDependents && f != metav1.FinalizerDeleteDependents {
			next = append(next, f)
		}
	}
	if orphan {
		next = append(next, metav1.FinalizerOrphanDependents)
	}
	if foreground {
		next = append(next, metav1.FinalizerDeleteDependents)
	}
	before := slices.Clone(obj.GetFinalizers())
	after := slices.Clone(next)
	slices.Sort(before)
	slices.Sort(after)
	if !slices.Equal(before, after) {
		obj.SetFinalizers(next)
	}
}

// collectable tells kinds that the garbage collector handles from those that it never looks at.
func collectable(t *Target) bool {
	return t.Kind.Storage.Prefix != "events"
}

func propagation(t *Target, obj metav1.Object, opts *metav1.DeleteOptions) (orphan, foreground bool) {
	if o := opts.OrphanDependents; o != nil { // Deprecated, and still part of the API.
		return *o, false
	}
	if p := opts.PropagationPolicy; p != nil {
		return *p == metav1.DeletePropagationOrphan, *p == metav1.DeletePropagationForeground
	}
	for _, f := range obj.GetFinalizers() {
		switch f {
		case metav1.FinalizerOrphanDependents:
			return true, false
		case metav1.FinalizerDeleteDependents:
			return false, true
		}
	}
	return t.Kind.OrphanByDefault, false
}

// answer is what the client reads: the object where it still exists or its kind says so, else a status.
func (d *deletion) answer(w *written) (*Result, error) {
	c := d.call
	code := http.StatusOK
	if o := c.Delete.OrphanDependents; !w.removed && o != nil && !*o { // Deprecated, and still part of the API.
		code = http.StatusAccepted
	}
	if !w.removed || c.Target.Kind.AnswersDeleted || isNamespace(c.Target) {
		if w.revision != 0 { // Who watches from there on does not see the deletion again.
			w.obj = w.obj.DeepCopyObject().(kinds.Object)
			w.obj.SetResourceVersion(strconv.FormatInt(w.revision, 10))
		}
		return c.result(w, code)
	}
	gone, err := w.object(c.Target)
	if err != nil {
		return nil, err
	}
	status := &metav1.Status{Status: metav1.StatusSuccess, Details: &metav1.StatusDetails{
		Name: gone.GetName(), Group: c.Target.GVR.Group, Kind: c.Target.GVR.Resource, UID: gone.GetUID(),
	}}
	return &Result{Code: code, Object: status}, nil
}

// collectionWorkers delete in parallel; collectionPage bounds what is listed at once.
const (
	collectionWorkers = 4
	collectionPage    = 10_000
)

func (e *Engine) deleteCollection(ctx context.Context, c *Call) (*Result, error) {
	opts := metav1.ListOptions{}
	if c.List != nil {
		opts = *c.List
	}
	limited := opts.Limit > 0
	if !limited {
		opts.Limit = collectionPage
	}
	out := &List{}
	for {
		listing := *c
		listing.Verb, listing.List = client.List, &opts
		res, err := e.list(ctx, &listing)
		if err != nil {
			return nil, err
		}
		if err := e.deleteAll(ctx, c, res.List); err != nil {
			return nil, err
		}
		if limited {
			return &Result{Code: http.StatusOK, List: res.List}, nil // Who asks for pages goes on with its token.
		}
		out.Entries = append(out.Entries, res.List.Entries...)
		if out.Revision == 0 {
			out.Revision = res.List.Revision
		}
		if res.List.Continue == "" {
			return &Result{Code: http.StatusOK, List: out}, nil
		}
		opts.Continue, opts.ResourceVersion, opts.ResourceVersionMatch = res.List.Continue, "", ""
	}
}

// deleteAll deletes the objects of a page. It stops at the first error; objects that are gone already are none.
func (e *Engine) deleteAll(ctx context.Context, c *Call, page *List) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan *Call)
	var wg sync.WaitGroup
	for range min(collectionWorkers, len(page.Entries)) {
		wg.Go(func() {
			for one := range work {
				if _, err := e.delete(ctx, one); err != nil && !apierrors.IsNotFound(err) {
					cancel(err)
				}
			}
		})
	}
	for _, entry := range page.Entries {
		obj, err := entry.Object()
		if err != nil {
			cancel(err)
			break
		}
		one := *c
		one.Name, one.Namespace, one.List = obj.GetName(), obj.GetNamespace(), nil
		select {
		case work <- &one:
		case <-ctx.Done():
		}
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}
