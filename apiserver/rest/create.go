// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/patch"
)

// body returns the call's object at the hub with defaults.
func (c *Call) body() (kinds.Object, error) {
	obj, ok := c.Object.(kinds.Object)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("request for %s carries a %T", c.Target.GVR.Resource, c.Object))
	}
	out, err := c.Target.take(obj)
	if err != nil && c.Target.Custom == nil { // It is not the client's fault if a webhook does not convert.
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return out, err
}

// Sent returns a copy of the object that a call carries, with the defaults of its version: what the audit log shows of it.
func (c *Call) Sent() runtime.Object {
	copied := c.Object.DeepCopyObject()
	obj, ok := copied.(kinds.Object)
	if !ok || c.Target.Custom != nil || obj.GetObjectKind().GroupVersionKind() != c.Target.Served.GroupVersionKind {
		return copied
	}
	stored, err := c.Target.toStorage(c.Target.Served, obj)
	if err != nil {
		return c.Object.DeepCopyObject()
	}
	served, err := c.Target.wire(stored)
	if err != nil {
		return c.Object.DeepCopyObject()
	}
	return served
}

func (e *Engine) create(ctx context.Context, c *Call) (*Result, error) {
	obj, err := c.body()
	if err != nil {
		return nil, err
	}
	wipe(obj)
	if err := checkNamespace(obj, c.namespace()); err != nil {
		return nil, err
	}
	warn(ctx, ownersWarning(dedupOwners(obj), false)...)
	obj = e.track(ctx, c, c.Target.blank(), obj)
	if obj, err = e.mutate(ctx, c, admission.Create, obj, nil); err != nil {
		return nil, err
	}
	attempts := 1
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		attempts = nameAttempts
	}
	var w *written
	for ; attempts > 0; attempts-- {
		var again kinds.Object
		if attempts > 1 {
			again = obj.DeepCopyObject().(kinds.Object)
		}
		w, err = e.insert(ctx, c, obj) // The object itself, not a copy: defaulting lets a job share a map with its template.
		if !apierrors.IsAlreadyExists(err) {
			break
		}
		obj = again
	}
	if err != nil {
		return nil, err
	}
	return c.result(w, http.StatusCreated)
}

// namespace is where the object belongs: empty for cluster-scoped kinds.
func (c *Call) namespace() string {
	if c.Target.Kind.Namespaced {
		return c.Namespace
	}
	return ""
}

// insert completes, judges and stores a new object. It owns obj.
func (e *Engine) insert(ctx context.Context, c *Call, obj kinds.Object) (*written, error) {
	generated := obj.GetName() == "" && obj.GetGenerateName() != ""
	key := ""
	w, err := e.transactNew(ctx, c, func() (*outcome, string, error) {
		out, err := e.prepareNew(ctx, c, obj)
		if err != nil {
			return out, "", err
		}
		key = c.Target.key(c.namespace(), obj.GetName())
		return out, key, nil
	})
	if !errors.Is(err, errExists) {
		return w, err
	}
	exists := apierrors.NewAlreadyExists(c.Target.GVR.GroupResource(), obj.GetName())
	if generated {
		exists = apierrors.NewGenerateNameConflict(c.Target.GVR.GroupResource(), obj.GetName(), 1)
	}
	if state, err := e.fresh(ctx, c.Target.bound, key); err == nil && state.entry != nil {
		if have, err := state.object(c.Target); err == nil && have.GetDeletionTimestamp() != nil {
			exists.ErrStatus.Message = "object is being deleted: " + exists.ErrStatus.Message
		}
	}
	return nil, exists
}

// errExists tells insert that the key is taken.
var errExists = errors.New("exists")

// transactNew stores a new key, or fails with errExists.
func (e *Engine) transactNew(ctx context.Context, c *Call, prepare func() (*outcome, string, error)) (w *written, err error) {
	out, key, err := prepare()
	defer func() { out.settle(err == nil) }()
	if err != nil {
		return nil, err
	}
	if c.dryRun() {
		state, err := e.fresh(ctx, c.Target.bound, key)
		if err != nil {
			return nil, err
		}
		if state.entry != nil {
			return nil, errExists
		}
	}
	w, conflict, err := e.commit(ctx, c, key, current{fresh: true}, out)
	if errors.Is(err, errTooLarge) && len(out.obj.GetManagedFields()) > 0 {
		out.obj.SetManagedFields(nil) // without which it may fit
		w, conflict, err = e.commit(ctx, c, key, current{fresh: true}, out)
	}
	if err != nil {
		return nil, err
	}
	if conflict != nil {
		return nil, errExists
	}
	return w, nil
}

// prepareNew brings a new object, which it owns, to the state to store: system metadata, strategy, validation, validating admission.
func (e *Engine) prepareNew(ctx context.Context, c *Call, obj kinds.Object) (*outcome, error) {
	k, now := c.Target.Kind, metav1.Now().Rfc3339Copy()
	if err := checkNamespace(obj, c.namespace()); err != nil { // Admission may have moved it.
		return nil, err
	}
	fill(obj, now)
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		obj.SetName(generateName(obj.GetGenerateName()))
	}
	versioned := !c.dryRun() && obj.GetResourceVersion() != "" && obj.GetResourceVersion() != "0"
	obj.SetResourceVersion("")
	if !k.NoGeneration {
		obj.SetGeneration(1)
	}
	req := e.strategyRequest(ctx, c, now)
	c.Target.prepareCreate(req, obj)
	out := &outcome{obj: obj}
	if err := e.reserve(ctx, c, obj, nil, out); err != nil {
		return out, err
	}
	errs := append(validateMeta(c.Target.Resource, obj), e.faults(ctx, c, req, obj, nil)...)
	if len(errs) > 0 {
		return out, invalid(c, obj.GetName(), errs)
	}
	if k.Warn != nil {
		warn(ctx, k.Warn(req, obj, nil)...)
	}
	if err := e.validate(ctx, c, admission.Create, obj, nil); err != nil {
		return out, err
	}
	if versioned { // It is the store that refuses this: whatever else is wrong is said first.
		return out, errors.New("resourceVersion should not be set on objects to be created")
	}
	return out, nil
}

// mostErrors is how many errors of an object an answer names. Making its text takes the square of their number, and a client can send an object with
// a hundred thousand.
const mostErrors = 1000

func invalid(c *Call, name string, errs field.ErrorList) error {
	errs = errs[:min(len(errs), mostErrors)]
	return apierrors.NewInvalid(c.Target.Kind.Storage.GroupKind(), name, errs)
}

// attributes describe a write to admission plugins.
func (e *Engine) attributes(ctx context.Context, c *Call, op admission.Operation, obj, old runtime.Object) *admission.Attributes {
	a := &admission.Attributes{
		Operation: op, Resource: c.Target.GVR, Kind: c.Target.Served.GroupVersionKind, Subresource: c.Subresource,
		Namespace: c.namespace(), Name: c.Name, Object: obj, Old: old, DryRun: c.dryRun(), User: user(ctx),
	}
	if c.Subresource != "" {
		if sub := c.Target.Kind.Subresource(c.Subresource); sub != nil && sub.GroupVersionKind.Kind != "" {
			a.Kind = sub.GroupVersionKind
		}
	}
	if m, ok := obj.(metav1.Object); ok && a.Name == "" {
		a.Name = m.GetName()
	}
	if c.Target.GVR.Resource == "namespaces" && c.Target.GVR.Group == "" && a.Namespace == "" {
		a.Namespace = a.Name
	}
	switch op {
	case admission.Create:
		a.Options = c.createOptions()
	case admission.Update:
		a.Options = c.updateOptions()
	case admission.Delete:
		if c.Delete != nil {
			a.Options = c.Delete
		} else {
			a.Options = &metav1.DeleteOptions{}
		}
	case admission.Connect: // has no options of its own
	}
	return a
}

// mutate runs the mutating plugins on obj, which they may change or replace.
func (e *Engine) mutate(ctx context.Context, c *Call, op admission.Operation, obj, old kinds.Object) (kinds.Object, error) {
	var before runtime.Object
	if old != nil {
		before = old
	}
	a := e.attributes(ctx, c, op, obj, before)
	if op == admission.Create && c.Target.Custom != nil {
		if err := c.Target.Custom.AllowCreate(a.Name); err != nil {
			return nil, err
		}
	}
	managed := obj.GetManagedFields()
	if err := e.alter(ctx, a); err != nil {
		return nil, err
	}
	out, ok := a.Object.(kinds.Object)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("admission turned the object into a %T", a.Object))
	}
	if got := out.GetManagedFields(); !sameList(got, managed) {
		if err := managedfields.ValidateManagedFields(got); err != nil {
			out.SetManagedFields(managed)
			warn(ctx, fmt.Sprintf(".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: %v", err))
		}
	}
	warn(ctx, ownersWarning(dedupOwners(out), true)...)
	return out, nil
}

// sameList reports whether two lists are one in memory: plugins of ours leave that of the object in place.
func sameList(a, b []metav1.ManagedFieldsEntry) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// validate runs the validating plugins.
func (e *Engine) validate(ctx context.Context, c *Call, op admission.Operation, obj, old kinds.Object) error {
	var after, before runtime.Object
	if obj != nil {
		after = obj
	}
	if old != nil {
		before = old
	}
	return e.judge(ctx, e.attributes(ctx, c, op, after, before))
}

func (e *Engine) judge(ctx context.Context, a *admission.Attributes) error {
	for _, p := range e.parts.Load().Plugins {
		if p.Validate == nil {
			continue
		}
		if err := p.Validate.Validate(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// admit runs both passes over something that is not stored (connect options, bindings).
func (e *Engine) admit(ctx context.Context, a *admission.Attributes) error {
	if err := e.alter(ctx, a); err != nil {
		return err
	}
	return e.judge(ctx, a)
}

// alter runs the mutating plugins.
func (e *Engine) alter(ctx context.Context, a *admission.Attributes) error {
	for _, p := range e.parts.Load().Plugins {
		if p.Mutate == nil {
			continue
		}
		if err := p.Mutate.Admit(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// agentOf is the User-Agent of the request in ctx.
func agentOf(ctx context.Context) string {
	if s := request.From(ctx); s != nil {
		return s.UserAgent
	}
	return ""
}

// track records in obj's managed fields what the call changed against live. It returns obj, or its replacement.
func (e *Engine) track(ctx context.Context, c *Call, live, obj kinds.Object) kinds.Object {
	m, err := e.manager(c.Target, c.Subresource)
	if err != nil {
		e.log.Debug("no field manager", "resource", c.Target.GVR.String(), "err", err)
		return obj
	}
	if out, ok := m.Update(live, obj, patch.ManagerName(c.manager(), agentOf(ctx))).(kinds.Object); ok {
		return out
	}
	return obj
}
