// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/store/cache"
)

// Call is one request in structured form, checked by its front: the target exists and has the subresource.
type Call struct {
	Verb        client.Verb
	Target      *Target
	Subresource string
	Namespace   string
	Name        string
	// Object is the body of create and update, at the target's version (or of the subresource's type). The engine owns it.
	Object runtime.Object
	// PatchType and Patch are the body of patch.
	PatchType types.PatchType
	Patch     []byte

	// The options of the verb; nil means defaults.
	List   *metav1.ListOptions
	Get    *metav1.GetOptions
	Create *metav1.CreateOptions
	Update *metav1.UpdateOptions
	Change *metav1.PatchOptions
	Delete *metav1.DeleteOptions

	// Woken, for watches that are polled, is called when there may be something to poll, as cache.WatchOptions has it.
	Woken func()
}

// Result answers a Call.
type Result struct {
	// Code is the HTTP status.
	Code int
	// Object is the answer in the form of the target's version, shared and immutable; nil for lists and where Entry is set.
	Object runtime.Object
	// Entry is the answer where it is a stored object as it is: encodings of it can be shared.
	Entry *cache.Entry
	// List is set for lists.
	List *List
}

// List is a page of objects.
type List struct {
	Entries   []*cache.Entry
	Revision  int64
	Continue  string
	Remaining *int64
}

// Meta is the list's metadata on the wire.
func (l *List) Meta() metav1.ListMeta {
	return metav1.ListMeta{ResourceVersion: strconv.FormatInt(l.Revision, 10), Continue: l.Continue, RemainingItemCount: l.Remaining}
}

// Resolve returns the result's object, decoding its entry if need be.
func (r *Result) Resolve(t *Target) (runtime.Object, error) {
	if r.Entry != nil {
		return t.Object(r.Entry)
	}
	return r.Object, nil
}

// writeTimeout bounds everything but lists, watches and collection deletes.
const writeTimeout = 34 * time.Second

// Execute runs any verb but watch.
func (e *Engine) Execute(ctx context.Context, c *Call) (*Result, error) {
	if c.Verb != client.List && c.Verb != client.DeleteCollection {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, writeTimeout)
		defer cancel()
	}
	res, err := e.dispatch(ctx, c)
	if err != nil {
		return nil, e.interpret(c, err)
	}
	if res.Code == 0 {
		res.Code = http.StatusOK
	}
	return res, nil
}

func (e *Engine) dispatch(ctx context.Context, c *Call) (*Result, error) {
	if c.Subresource != "" {
		if res, done, err := e.subresource(ctx, c); done {
			return res, err
		}
	}
	if !c.Target.stored() {
		return e.virtual(ctx, c)
	}
	if err := checkPath(c.Name); err != nil {
		return nil, err
	}
	switch c.Verb {
	case client.Get:
		return e.get(ctx, c)
	case client.List:
		return e.list(ctx, c)
	case client.Create:
		return e.create(ctx, c)
	case client.Update:
		return e.update(ctx, c)
	case client.Patch:
		return e.patch(ctx, c)
	case client.Delete:
		return e.deleteNamed(ctx, c)
	case client.DeleteCollection:
		return e.deleteCollection(ctx, c)
	default:
		return nil, apierrors.NewMethodNotSupported(c.Target.GroupResource(), string(c.Verb))
	}
}

// interpret turns store and cache errors into API errors; API errors pass.
func (e *Engine) interpret(c *Call, err error) error {
	var status apierrors.APIStatus
	gr := c.Target.GVR.GroupResource()
	switch {
	case errors.As(err, &status):
		return err
	case errors.Is(err, cache.ErrNotReady), errors.Is(err, cache.ErrEnded):
		return apierrors.NewTooManyRequests("storage is (re)initializing", 1)
	case errors.Is(err, context.DeadlineExceeded):
		return apierrors.NewTimeoutError(fmt.Sprintf("request did not complete within the allotted timeout: %v", err), 0)
	case errors.Is(err, context.Canceled):
		return apierrors.NewServerTimeout(gr, string(c.Verb), 0)
	default:
		return err
	}
}

// user of the request in ctx.
func user(ctx context.Context) request.User {
	if s := request.From(ctx); s != nil {
		return s.User
	}
	return request.User{}
}

func warn(ctx context.Context, texts ...string) {
	if s := request.From(ctx); s != nil {
		for _, t := range texts {
			s.Warn(t)
		}
	}
}

// strategyRequest is what descriptors may know of the call.
func (e *Engine) strategyRequest(ctx context.Context, c *Call, now metav1.Time) kinds.Request {
	u := user(ctx)
	return kinds.Request{
		Now: now, User: u.Name, Groups: u.Groups, UID: u.UID, Extra: u.Extra, DryRun: c.dryRun(), Subresource: c.Subresource,
		Version: c.Target.GVR.GroupVersion(), Warn: func(text string) { warn(ctx, text) },
		NamespaceLabels: func() map[string]string {
			namespace, err := reader{e}.GetFresh(ctx, schema.GroupResource{Resource: "namespaces"}, "", c.namespace())
			if err != nil || namespace == nil {
				return nil // as good as none
			}
			return namespace.GetLabels()
		},
	}
}

func (c *Call) dryRun() bool {
	switch {
	case c.Create != nil:
		return len(c.Create.DryRun) > 0
	case c.Update != nil:
		return len(c.Update.DryRun) > 0
	case c.Change != nil:
		return len(c.Change.DryRun) > 0
	case c.Delete != nil:
		return len(c.Delete.DryRun) > 0
	default:
		return false
	}
}

// manager is the field manager that the request named.
func (c *Call) manager() string {
	switch {
	case c.Create != nil:
		return c.Create.FieldManager
	case c.Update != nil:
		return c.Update.FieldManager
	case c.Change != nil:
		return c.Change.FieldManager
	default:
		return ""
	}
}

// validation says what to do about unknown fields: Strict, Warn or Ignore.
func (c *Call) validation() string {
	mode := ""
	switch {
	case c.Create != nil:
		mode = c.Create.FieldValidation
	case c.Update != nil:
		mode = c.Update.FieldValidation
	case c.Change != nil:
		mode = c.Change.FieldValidation
	}
	if mode == "" {
		return metav1.FieldValidationWarn
	}
	return mode
}

// createOptions of a write that may create.
func (c *Call) createOptions() *metav1.CreateOptions {
	out := &metav1.CreateOptions{}
	switch {
	case c.Create != nil:
		out = c.Create.DeepCopy()
	case c.Update != nil:
		out = &metav1.CreateOptions{DryRun: c.Update.DryRun, FieldManager: c.Update.FieldManager, FieldValidation: c.Update.FieldValidation}
	case c.Change != nil:
		out = &metav1.CreateOptions{DryRun: c.Change.DryRun, FieldManager: c.Change.FieldManager, FieldValidation: c.Change.FieldValidation}
	}
	out.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("CreateOptions"))
	return out
}

// updateOptions of a write that changes.
func (c *Call) updateOptions() *metav1.UpdateOptions {
	out := &metav1.UpdateOptions{}
	switch {
	case c.Update != nil:
		out = c.Update.DeepCopy()
	case c.Change != nil:
		out = &metav1.UpdateOptions{DryRun: c.Change.DryRun, FieldManager: c.Change.FieldManager, FieldValidation: c.Change.FieldValidation}
	}
	out.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("UpdateOptions"))
	return out
}
