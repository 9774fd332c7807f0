// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/patch"
)

var scaleGVK = schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}

// scaler maps objects of the target to and from Scale.
func (t *Target) scaler() *kinds.Scale {
	if t.Custom != nil {
		return t.Custom.Scales[t.Served.GroupVersion()]
	}
	if sub := t.Kind.Subresource("scale"); sub != nil {
		return sub.Scale
	}
	return nil
}

// scaleOf reads an object's Scale. Custom resources are read at the target's version, built-ins in the storage version.
func (t *Target) scaleOf(obj kinds.Object, s *kinds.Scale) (*autoscalingv1.Scale, error) {
	at := obj
	if t.Custom != nil {
		var err error
		if at, err = t.wire(obj); err != nil {
			return nil, err
		}
	}
	spec, status, selector := s.Get(at)
	out := &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{
			Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: spec},
		Status: autoscalingv1.ScaleStatus{Replicas: status, Selector: selector},
	}
	out.SetGroupVersionKind(scaleGVK)
	return out, nil
}

func (e *Engine) scale(ctx context.Context, c *Call) (*Result, error) {
	s := c.Target.scaler()
	gr := c.Target.GVR.GroupResource()
	if s == nil {
		return nil, apierrors.NewNotFound(gr, c.Name)
	}
	switch c.Verb {
	case client.Get:
		res, err := e.get(ctx, c)
		if err != nil {
			return nil, err
		}
		obj, err := res.Entry.Object()
		if err != nil {
			return nil, err
		}
		out, err := c.Target.scaleOf(obj, s)
		return &Result{Code: http.StatusOK, Object: out}, err
	case client.Update, client.Patch:
		return e.rescale(ctx, c, s)
	default:
		return nil, apierrors.NewMethodNotSupported(gr, string(c.Verb))
	}
}

// rescale changes the replicas of an object through its Scale.
func (e *Engine) rescale(ctx context.Context, c *Call, s *kinds.Scale) (*Result, error) {
	w, err := e.transact(ctx, c, c.Target.key(c.namespace(), c.Name), func(ctx context.Context, old kinds.Object) (*outcome, error) {
		if old == nil {
			return nil, apierrors.NewNotFound(c.Target.GVR.GroupResource(), c.Name)
		}
		before, err := c.Target.scaleOf(old, s)
		if err != nil {
			return nil, err
		}
		after, err := c.newScale(ctx, before)
		if err != nil {
			return nil, err
		}
		if err := e.admitScale(ctx, c, after, before); err != nil {
			return nil, err
		}
		return e.rescaled(ctx, c, s, after, old)
	})
	if err != nil {
		return nil, err
	}
	out, err := c.Target.scaleOf(w.obj, s)
	return &Result{Code: http.StatusOK, Object: out}, err
}

// newScale is the Scale that the call asks for.
func (c *Call) newScale(ctx context.Context, before *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
	if c.Verb == client.Update {
		after, ok := c.Object.(*autoscalingv1.Scale)
		if !ok {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("wrong object passed to Scale update: %T", c.Object))
		}
		return after.DeepCopy(), checkName(after, c.Name, c.Namespace)
	}
	after := &autoscalingv1.Scale{}
	strict := c.strict()
	switch c.PatchType {
	case types.StrategicMergePatchType:
		if err := patch.Strategic(before, c.Patch, after, strict); err != nil {
			return nil, err
		}
	case applyPatch:
		applied, err := patch.Applied(c.Patch)
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(applied.Object)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		doc, err := json.Marshal(before)
		if err != nil {
			return nil, err
		}
		if data, err = patch.Document(types.MergePatchType, doc, data, nil); err != nil {
			return nil, err
		}
		if _, _, err := codec.Decode(data, codec.JSON, after, codec.Lenient, scaleGVK); err != nil {
			return nil, patch.Invalid(string(data), err)
		}
	default:
		doc, err := json.Marshal(before)
		if err != nil {
			return nil, err
		}
		if doc, err = patch.Document(c.PatchType, doc, c.Patch, strict); err != nil {
			return nil, err
		}
		if _, _, err := codec.Decode(doc, codec.JSON, after, codec.Lenient, scaleGVK); err != nil {
			return nil, patch.Invalid(string(doc), err)
		}
	}
	return after, c.report(ctx, strict, func() string { return string(c.Patch) })
}

func (e *Engine) admitScale(ctx context.Context, c *Call, after, before *autoscalingv1.Scale) error {
	after.SetGroupVersionKind(scaleGVK)
	if err := e.admit(ctx, e.attributes(ctx, c, admission.Update, after, before)); err != nil {
		return err
	}
	if after.Spec.Replicas < 0 {
		return apierrors.NewInvalid(scaleGVK.GroupKind(), c.Name, field.ErrorList{
			field.Invalid(field.NewPath("spec", "replicas"), after.Spec.Replicas, "must be greater than or equal to 0"),
		})
	}
	return nil
}

// rescaled is the object with the Scale's replicas.
func (e *Engine) rescaled(ctx context.Context, c *Call, s *kinds.Scale, after *autoscalingv1.Scale, old kinds.Object) (*outcome, error) {
	if v := after.ResourceVersion; v != "" && v != old.GetResourceVersion() {
		return nil, apierrors.NewConflict(c.Target.GVR.GroupResource(), c.Name, errors.New(optimisticLock))
	}
	if after.UID != "" && after.UID != old.GetUID() {
		return nil, apierrors.NewConflict(c.Target.GVR.GroupResource(), c.Name,
			fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", after.UID, old.GetUID())) //nolint:staticcheck // Upstream's words.
	}
	next, err := e.withReplicas(c, s, after.Spec.Replicas, old)
	if err != nil {
		return nil, err
	}
	agent := ""
	if st := request.From(ctx); st != nil {
		agent = st.UserAgent
	}
	if m, err := e.manager(c.Target, "scale"); err == nil {
		if tracked, ok := m.Update(old, next, patch.ManagerName(c.manager(), agent)).(kinds.Object); ok {
			next = tracked
		}
	}
	k := c.Target.Kind
	req := c.strategyRequest(ctx, metav1.Now().Rfc3339Copy())
	if k.PrepareUpdate != nil {
		k.PrepareUpdate(req, next, old)
	}
	keepSystemFields(next, old)
	if k.ValidateUpdate != nil {
		if errs := k.ValidateUpdate(req, next, old); len(errs) > 0 {
			return nil, invalid(c, c.Name, errs)
		}
	}
	patch.KeepTimes(next, old)
	return &outcome{obj: next}, nil
}

func (e *Engine) withReplicas(c *Call, s *kinds.Scale, replicas int32, old kinds.Object) (kinds.Object, error) {
	if c.Target.Custom == nil {
		next := old.DeepCopyObject().(kinds.Object)
		s.Set(next, replicas)
		return next, nil
	}
	shared, err := c.Target.wire(old)
	if err != nil {
		return nil, err
	}
	next := shared.DeepCopyObject().(kinds.Object)
	s.Set(next, replicas)
	return c.Target.toStorage(c.Target.Served, next)
}
