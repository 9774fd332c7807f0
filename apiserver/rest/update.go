// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/patch"
)

// optimisticLock is the message of a lost race.
const optimisticLock = "the object has been modified; please apply your changes to the latest version and try again"

func (e *Engine) update(ctx context.Context, c *Call) (*Result, error) {
	obj, err := c.body()
	if err != nil {
		return nil, err
	}
	if err := checkNamespace(obj, c.namespace()); err != nil {
		return nil, err
	}
	if err := checkName(obj, c.Name, c.namespace()); err != nil {
		return nil, err
	}
	warn(ctx, ownersWarning(dedupOwners(obj), false)...)
	r := &rewrite{engine: e, call: c, uid: string(obj.GetUID()), allowCreate: c.Target.Kind.CreateOnUpdate && c.Subresource == ""}
	r.next = func(ctx context.Context, old kinds.Object) (kinds.Object, error) {
		next := obj.DeepCopyObject().(kinds.Object)
		if r.untracked {
			next.SetManagedFields(nil)
			return next, nil
		}
		live := old
		if live == nil {
			live = c.Target.blank()
		}
		return e.track(ctx, c, live, next), nil
	}
	return r.run(ctx)
}

// rewrite replaces an object by one that next computes from it; update, patch and apply are rewrites.
type rewrite struct {
	engine *Engine
	call   *Call
	// next returns the new state, owned by the caller, at the hub.
	next func(ctx context.Context, old kinds.Object) (kinds.Object, error)
	// uid that the old object must have, if any.
	uid string
	// allowCreate lets the rewrite create a missing object.
	allowCreate bool
	// untracked drops managed fields: the object was too large with them.
	untracked bool
	// sub is the partial update that the subresource stands for; nil for the main resource.
	sub *kinds.Subresource
}

func (r *rewrite) run(ctx context.Context) (*Result, error) {
	c := r.call
	if c.Subresource != "" {
		r.sub = c.Target.subresource(c.Subresource)
	}
	key := c.Target.key(c.namespace(), c.Name)
	w, err := r.engine.transact(ctx, c, key, r.step)
	if errors.Is(err, errTooLarge) && !r.untracked && c.PatchType != applyPatch {
		r.untracked = true
		w, err = r.engine.transact(ctx, c, key, r.step)
	}
	if err != nil {
		return nil, err
	}
	code := http.StatusOK
	if w.created {
		code = http.StatusCreated
	}
	return c.result(w, code)
}

// step is one try of the transaction.
func (r *rewrite) step(ctx context.Context, old kinds.Object) (*outcome, error) {
	c, e := r.call, r.engine
	gr := c.Target.GVR.GroupResource()
	if old == nil {
		if !r.allowCreate {
			return nil, apierrors.NewNotFound(gr, c.Name)
		}
		if r.uid != "" {
			return nil, r.uidConflict("")
		}
		return r.createStep(ctx)
	}
	if r.uid != "" && r.uid != string(old.GetUID()) {
		return nil, r.uidConflict(string(old.GetUID()))
	}
	obj, err := r.next(ctx, old)
	if err != nil {
		return nil, err
	}
	if obj, err = e.mutate(ctx, c, admission.Update, obj, old); err != nil {
		return nil, err
	}
	switch version := obj.GetResourceVersion(); {
	case version == "" || version == "0":
		if c.Target.Kind.ConditionalUpdateOnly {
			return nil, apierrors.NewInvalid(gr2gk(c), c.Name, field.ErrorList{
				field.Invalid(field.NewPath("metadata", "resourceVersion"), 0, "must be specified for an update"),
			})
		}
		obj.SetResourceVersion(old.GetResourceVersion())
	case version != old.GetResourceVersion():
		if _, err := strconv.ParseUint(version, 10, 64); err != nil {
			return nil, err // An internal error, as upstream's.
		}
		return nil, apierrors.NewConflict(gr, c.Name, errors.New(optimisticLock))
	}
	return r.finish(ctx, obj, old)
}

func gr2gk(c *Call) schema.GroupKind {
	return schema.GroupKind{Group: c.Target.GVR.Group, Kind: c.Target.GVR.Resource}
}

// otherUID is why a request for one object is none for another of its name, in upstream's words.
func otherUID(want, have types.UID) error {
	return fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", want, have) //nolint:staticcheck // see above
}

func (r *rewrite) uidConflict(have string) error {
	c := r.call
	key := c.Target.key(c.namespace(), c.Name)
	return apierrors.NewConflict(c.Target.GVR.GroupResource(), c.Name, fmt.Errorf(
		"StorageError: invalid object, Code: 4, Key: %s, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: %s, UID in object meta: %s",
		key, r.uid, have,
	))
}

// createStep creates a missing object, if the user may.
func (r *rewrite) createStep(ctx context.Context) (*outcome, error) {
	c, e := r.call, r.engine
	obj, err := r.next(ctx, nil)
	if err != nil {
		return nil, err
	}
	if obj.GetUID() != "" {
		return nil, apierrors.NewConflict(c.Target.GVR.GroupResource(), c.Name,
			fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", obj.GetUID()))
	}
	if obj, err = e.mutate(ctx, c, admission.Create, obj, nil); err != nil {
		return nil, err
	}
	if err := e.authorizeCreate(ctx, c); err != nil {
		return nil, err
	}
	obj.SetResourceVersion("") // Of what is not there any version will do.
	return e.prepareNew(ctx, c, obj)
}

// authorizeCreate asks whether the user of an update or patch may create, too.
func (e *Engine) authorizeCreate(ctx context.Context, c *Call) error {
	a := e.parts.Load().Authorizer
	if a == nil {
		return apierrors.NewInternalError(errors.New("no authorizer provided, unable to authorize a create on update"))
	}
	attrs := &authz.Attributes{
		User: user(ctx), ResourceRequest: true, Verb: "create", APIGroup: c.Target.GVR.Group, APIVersion: c.Target.GVR.Version,
		Resource: c.Target.GVR.Resource, Subresource: c.Subresource, Namespace: c.namespace(), Name: c.Name,
	}
	decision, reason, err := a.Authorize(ctx, attrs)
	switch {
	case decision == authz.Allow:
		return nil
	case err != nil:
		return apierrors.NewInternalError(err)
	default:
		return Forbidden(attrs, reason)
	}
}

// finish brings a changed object to the state to store.
func (r *rewrite) finish(ctx context.Context, obj, old kinds.Object) (*outcome, error) {
	c, e := r.call, r.engine
	now := metav1.Now().Rfc3339Copy()
	req := e.strategyRequest(ctx, c, now)
	if err := checkNamespace(obj, c.namespace()); err != nil {
		return nil, err
	}
	obj.SetGeneration(old.GetGeneration())
	c.Target.prepareUpdate(r.sub, req, obj, old)
	keepSystemFields(obj, old)
	out := &outcome{obj: obj}
	if r.sub == nil {
		if err := e.reserve(ctx, c, obj, old, out); err != nil {
			return out, err
		}
	}
	errs := validateMetaUpdate(c.Target.Resource, obj, old)
	if r.sub == nil {
		errs = append(errs, e.faults(ctx, c, req, obj, old)...)
	} else {
		errs = append(errs, c.Target.validateUpdate(r.sub, req, obj, old)...)
	}
	if len(errs) > 0 {
		return out, invalid(c, obj.GetName(), errs)
	}
	advise := c.Target.Kind.Warn
	if r.sub != nil {
		advise = r.sub.Warn
	}
	if advise != nil {
		warn(ctx, advise(req, obj, old)...)
	}
	patch.KeepTimes(obj, old)
	if err := e.validate(ctx, c, admission.Update, obj, old); err != nil {
		return out, err
	}
	out.remove = removeOnUpdate(c, obj, old)
	return out, nil
}

// keepSystemFields takes from old what no update can change.
func keepSystemFields(obj, old kinds.Object) {
	if obj.GetUID() == "" {
		obj.SetUID(old.GetUID())
	}
	if t := old.GetCreationTimestamp(); !t.IsZero() {
		obj.SetCreationTimestamp(t)
	}
	if t := old.GetDeletionTimestamp(); t != nil {
		obj.SetDeletionTimestamp(t)
	}
	if s := old.GetDeletionGracePeriodSeconds(); s != nil && obj.GetDeletionGracePeriodSeconds() == nil {
		obj.SetDeletionGracePeriodSeconds(s)
	}
}

// removeOnUpdate tells whether an update that emptied the finalizers of an object being deleted finishes the deletion.
func removeOnUpdate(c *Call, obj, old kinds.Object) bool {
	if len(obj.GetFinalizers()) > 0 || old.GetDeletionTimestamp() == nil {
		return false
	}
	if s := old.GetDeletionGracePeriodSeconds(); s != nil && *s != 0 {
		return false
	}
	return !isNamespace(c.Target) || namespaceFinalized(obj)
}
