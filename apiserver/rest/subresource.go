// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
)

// subresource runs what is not a plain read or partial update of the object; done is false for those.
func (e *Engine) subresource(ctx context.Context, c *Call) (res *Result, done bool, err error) {
	sub := c.Target.Kind.Subresource(c.Subresource)
	if sub == nil {
		return nil, true, apierrors.NewNotFound(c.Target.GVR.GroupResource(), c.Name)
	}
	gr := schema.GroupResource{Group: c.Target.GVR.Group, Resource: c.Target.GVR.Resource + "/" + c.Subresource}
	if c.Verb == client.Create {
		if v := e.parts.Load().Virtual[gr]; v != nil {
			res, err := e.answerVirtual(ctx, c, v)
			return res, true, err
		}
	}
	switch {
	case gr.String() == "pods/binding" && c.Verb == client.Create:
		res, err = e.bindPod(ctx, c)
	case gr.String() == "pods/eviction" && c.Verb == client.Create:
		res, err = e.evict(ctx, c)
	case c.Subresource == "scale":
		res, err = e.scale(ctx, c)
	case sub.Connect:
		err = apierrors.NewMethodNotSupported(gr, string(c.Verb))
	case c.Verb == client.Get || c.Verb == client.Update || c.Verb == client.Patch:
		return nil, false, nil
	default:
		err = apierrors.NewMethodNotSupported(gr, string(c.Verb))
	}
	return res, true, err
}

// virtual serves resources that have no objects.
func (e *Engine) virtual(ctx context.Context, c *Call) (*Result, error) {
	gr := c.Target.GVR.GroupResource()
	switch {
	case c.Verb == client.Create && gr.String() == "bindings":
		return e.bindPod(ctx, c)
	case c.Verb == client.Create:
		if v := e.parts.Load().Virtual[gr]; v != nil {
			return e.answerVirtual(ctx, c, v)
		}
		return nil, apierrors.NewInternalError(fmt.Errorf("nothing answers %s", gr))
	case gr.String() == "componentstatuses" && (c.Verb == client.Get || c.Verb == client.List):
		return e.components(ctx, c)
	}
	return nil, apierrors.NewMethodNotSupported(gr, string(c.Verb))
}

func (e *Engine) answerVirtual(ctx context.Context, c *Call, v Virtual) (*Result, error) {
	if m, ok := c.Object.(metav1.Object); ok && c.Namespace != "" {
		if err := checkNamespace(m, c.namespace()); err != nil {
			return nil, err
		}
	}
	if sub := c.Target.Kind.Subresource(c.Subresource); sub != nil && sub.Default != nil {
		if obj, ok := c.Object.(kinds.Object); ok {
			c.Object = obj.DeepCopyObject()
			sub.Default(c.Object.(kinds.Object))
		}
	}
	obj := e.trackVirtual(ctx, c, c.Object)
	if err := e.admit(ctx, e.attributes(ctx, c, admission.Create, obj, nil)); err != nil {
		return nil, err
	}
	out, err := v(ctx, obj)
	if err != nil {
		return nil, err
	}
	if out.GetObjectKind().GroupVersionKind().Kind == "" {
		out.GetObjectKind().SetGroupVersionKind(c.Object.GetObjectKind().GroupVersionKind())
	}
	return &Result{Code: http.StatusCreated, Object: out}, nil
}

// AdmitConnect asks the admission plugins about a connect request (exec, proxy and the like); options say what it asks for.
func (e *Engine) AdmitConnect(ctx context.Context, c *Call, options runtime.Object) error {
	return e.admit(ctx, e.attributes(ctx, c, admission.Connect, options, nil))
}

// Forbidden is the answer to what the authorizer refused.
func Forbidden(a *authz.Attributes, reason string) error {
	gr := schema.GroupResource{Group: a.APIGroup, Resource: a.Resource}
	if !a.ResourceRequest {
		return apierrors.NewForbidden(gr, "", fmt.Errorf("%s", withReason(fmt.Sprintf("User %q cannot %s path %q", a.User.Name, a.Verb, a.Path), reason)))
	}
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	text := fmt.Sprintf("User %q cannot %s resource %q in API group %q", a.User.Name, a.Verb, resource, a.APIGroup)
	if a.Namespace != "" {
		text += fmt.Sprintf(" in the namespace %q", a.Namespace)
	} else {
		text += " at the cluster scope"
	}
	return apierrors.NewForbidden(gr, a.Name, fmt.Errorf("%s", withReason(text, reason)))
}

func withReason(text, reason string) string {
	if reason == "" {
		return text
	}
	return text + ": " + reason
}
