// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/store/cache"
)

// Client returns a backend for components of this process. Its requests carry user, and skip the socket, encoding and authentication, but
// neither authorization nor admission nor audit. Objects that it returns are decoded from stored bytes and shared with the watch cache.
func (s *Server) Client(user request.User) client.Backend {
	l := &local{server: s, user: *withAuthenticated(&user), agent: agentOf(user.Name)}
	l.remote = sync.OnceValues(l.newRemote)
	return l
}

// agentOf names the program that a component is, for field managers and logs: the last part of its user name.
func agentOf(name string) string {
	if name == "system:apiserver" {
		return "kube-apiserver" // the name under which others know what it writes
	}
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		return name[i+1:]
	}
	return name
}

type local struct {
	server *Server
	user   request.User
	agent  string
	// remote makes the backend for what other servers serve.
	remote func() (client.Backend, error)
}

var (
	_ client.Backend       = (*local)(nil)
	_ client.FirstNotifier = (*local)(nil)
)

// begin makes the state of a request and authorizes it.
func (l *local) begin(ctx context.Context, req *client.Request) (context.Context, *request.State, *rest.Call, error) {
	state := &request.State{User: l.user, Received: time.Now(), AuditID: uuid.NewString(), UserAgent: l.agent, URI: client.PathOf(req)}
	state.Info = request.Info{
		IsResource: true, Verb: string(req.Verb), GroupVersionResource: req.Resource, Namespace: req.Namespace, Name: req.Name, Subresource: req.Subresource,
	}
	if req.ListOptions != nil {
		state.Info.FieldSelector, state.Info.LabelSelector = req.ListOptions.FieldSelector, req.ListOptions.LabelSelector
		if (req.Verb == client.List || req.Verb == client.Watch) && req.Name == "" {
			state.Info.Name = selectedName(req.ListOptions.FieldSelector) // As a request's URL is read.
		}
	}
	ctx = request.With(ctx, state)
	t := l.server.engine.Lookup(req.Resource)
	if t == nil {
		return ctx, state, nil, apierrors.NewGenericServerResponse(http.StatusNotFound, string(req.Verb), req.Resource.GroupResource(), req.Name, "404 page not found", 0, true)
	}
	if isNamespaces(t) && req.Name != "" {
		state.Info.Namespace = req.Name // As the URL's form says for namespaces.
	}
	if t.Kind.Namespaced && req.Namespace == "" && req.Verb != client.List && req.Verb != client.Watch {
		return ctx, state, nil, apierrors.NewBadRequest("an empty namespace may not be set when a resource name may be provided")
	}
	if needsName(req) && req.Name == "" {
		return ctx, state, nil, apierrors.NewBadRequest("resource name may not be empty")
	}
	if err := l.server.authorize(ctx, attributesOf(state)); err != nil {
		return ctx, state, nil, err
	}
	p := &parsed{Info: state.Info}
	if !allows(t, p, "") {
		return ctx, state, nil, methodNotAllowed(t, p)
	}
	return ctx, state, &rest.Call{
		Verb: req.Verb, Target: t, Subresource: req.Subresource, Namespace: req.Namespace, Name: req.Name,
		PatchType: req.PatchType, Patch: req.Patch, List: req.ListOptions, Get: req.GetOptions, Create: req.CreateOptions,
		Update: req.UpdateOptions, Change: req.PatchOptions, Delete: req.DeleteOptions,
	}, nil
}

func needsName(req *client.Request) bool {
	switch req.Verb {
	case client.Get, client.Update, client.Patch, client.Delete:
		return true
	case client.Create:
		return req.Subresource != ""
	default:
		return false
	}
}

// Do implements client.Backend.
func (l *local) Do(ctx context.Context, req *client.Request) (*client.Result, error) {
	if remote, err := l.elsewhere(req.Resource.GroupVersion()); remote != nil || err != nil {
		if err != nil {
			return nil, err
		}
		return remote.Do(ctx, req)
	}
	ctx, state, call, err := l.begin(ctx, req)
	info := &parsed{Info: state.Info, served: l.server.serves(&state.Info)}
	done := l.server.metrics.begin(info)
	code := http.StatusOK
	_, finish := l.audited(state)
	var out *client.Result
	if err == nil {
		out, code, err = l.execute(ctx, req, call)
	}
	if err != nil {
		status := statusOf(err)
		code = int(status.Code)
		err = &apierrors.StatusError{ErrStatus: status}
		finish(nil, status)
	} else {
		finish(out.Object, metav1.Status{Code: int32(code)}) // An HTTP status.
	}
	done(code)
	l.server.logRequest(ctx, state, code)
	return out, err
}

// NotifyFirst implements client.FirstNotifier for custom resources: there are many definitions whose objects nobody ever makes.
func (l *local) NotifyFirst(ctx context.Context, req *client.Request, notify func()) bool {
	if remote, err := l.elsewhere(req.Resource.GroupVersion()); remote != nil || err != nil {
		return false
	}
	_, _, call, err := l.begin(ctx, req)
	return err == nil && call.Target.Custom != nil && call.Target.NotifyFirst(notify)
}

func (l *local) execute(ctx context.Context, req *client.Request, call *rest.Call) (*client.Result, int, error) {
	if err := completeOptions(call); err != nil {
		return nil, 0, err
	}
	if req.Object != nil {
		if err := takeObject(call, req.Object); err != nil {
			return nil, 0, err
		}
	}
	recordSent(ctx, call, req.DeleteOptions)
	res, err := l.server.engine.Execute(ctx, call)
	if err != nil {
		return nil, 0, err
	}
	out := &client.Result{Created: res.Code == http.StatusCreated}
	if res.List == nil {
		out.Object, err = answered(req, call.Target, res)
		return out, res.Code, err
	}
	out.ListMeta = res.List.Meta()
	out.Items = make([]runtime.Object, 0, len(res.List.Entries))
	for _, entry := range res.List.Entries {
		obj, err := projected(req, call.Target, entry)
		if err != nil {
			return nil, 0, err
		}
		out.Items = append(out.Items, obj)
	}
	return out, res.Code, nil
}

// answered returns the object of a result, or its metadata.
func answered(req *client.Request, t *rest.Target, res *rest.Result) (runtime.Object, error) {
	switch {
	case !req.Metadata:
		return res.Resolve(t)
	case res.Entry == nil:
		return metadataOf(res.Object, t)
	default:
		return projected(req, t, res.Entry)
	}
}

// projected returns as much of an object of a list or watch as is asked for. Its reader keeps it as long as it wants.
func projected(req *client.Request, t *rest.Target, entry *cache.Entry) (runtime.Object, error) {
	if !req.Metadata && !req.Slim {
		return t.Peek(entry)
	}
	obj, err := t.Slim(entry)
	if err != nil || !req.Metadata {
		return obj, err
	}
	return metadataOf(obj, t)
}

// metadataOf returns the metadata alone. A status stays what it is.
func metadataOf(obj runtime.Object, t *rest.Target) (runtime.Object, error) {
	if status, is := obj.(*metav1.Status); is {
		return status, nil
	}
	object, ok := obj.(metav1.Object)
	if !ok {
		return nil, fmt.Errorf("a %T has no metadata", obj)
	}
	return codec.Partial(object, metav1.SchemeGroupVersion, t.Kind.FormAnnotations), nil
}

// completeOptions sets the options that the verb needs and checks them as the HTTP front does.
func completeOptions(c *rest.Call) error {
	switch c.Verb {
	case client.Create:
		if c.Create == nil {
			c.Create = &metav1.CreateOptions{}
		}
		return invalidOptions("CreateOptions", metavalidation.ValidateCreateOptions(c.Create))
	case client.Update:
		if c.Update == nil {
			c.Update = &metav1.UpdateOptions{}
		}
		return invalidOptions("UpdateOptions", metavalidation.ValidateUpdateOptions(c.Update))
	case client.Patch:
		if c.Change == nil {
			c.Change = &metav1.PatchOptions{}
		}
		if c.PatchType == "" {
			c.PatchType = types.StrategicMergePatchType
		}
	case client.Delete, client.DeleteCollection:
		if c.Delete == nil {
			c.Delete = &metav1.DeleteOptions{}
		}
	case client.Get, client.List, client.Watch: // set by the caller
	}
	return nil
}

// takeObject copies a caller's object into the call, checked to be of the type that the call takes.
func takeObject(c *rest.Call, obj runtime.Object) error {
	want, empty := bodyType(c)
	// What a Go type is, it says itself; only dynamic objects can be of another kind than they are sent to.
	if gvk := obj.GetObjectKind().GroupVersionKind(); c.Target.Custom != nil && gvk.Kind != "" && gvk != want {
		return apierrors.NewBadRequest("the API version in the data (" + gvk.String() + ") does not match the expected API version (" + want.String() + ")")
	}
	if c.Target.Custom == nil && !sameType(obj, empty) {
		converted, err := retype(obj, empty, want)
		if err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		obj = converted
	} else {
		obj = obj.DeepCopyObject()
	}
	obj.GetObjectKind().SetGroupVersionKind(want)
	c.Object = obj
	_, err := schemaErrors(c, obj, nil, codec.Lenient)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	return nil
}
