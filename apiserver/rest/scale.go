// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
	"kogge.dev/kogge/patch"
)

var scaleGVK = schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}

// ScaleTable shows a Scale of the target.
func (t *Target) ScaleTable() codec.TableSource {
	name, age := table.Text("Name", metav1.ObjectMeta{}.SwaggerDoc()["name"]), table.Age()
	if t.Custom != nil {
		name, age.Type = table.Name(), "date"
	}
	return codec.TableSource{
		Columns: []metav1.TableColumnDefinition{
			name,
			table.Number("Desired", autoscalingv1.ScaleSpec{}.SwaggerDoc()["replicas"]),
			table.Number("Available", autoscalingv1.ScaleStatus{}.SwaggerDoc()["replicas"]),
			age,
		},
		Row: func(obj runtime.Object, now time.Time) []any {
			s := obj.(*autoscalingv1.Scale)
			return []any{s.Name, int64(s.Spec.Replicas), int64(s.Status.Replicas), table.Since(s.CreationTimestamp, now)}
		},
	}
}

// scaler maps objects of the target to and from Scale.
func (t *Target) scaler() *kinds.Scale {
	if t.Custom != nil {
		return t.Custom.Scale(t.Served.GroupVersion())
	}
	if sub := t.Kind.Subresource("scale"); sub != nil {
		return sub.Scale
	}
	return nil
}

// noReplicas are the desired replicas of an object that does not say how many.
const noReplicas = math.MinInt32

// scaleOf reads the Scale of an object at the hub.
func scaleOf(obj kinds.Object, s *kinds.Scale) *autoscalingv1.Scale {
	spec, status, selector := s.Get(obj)
	if s.Has != nil && !s.Has(obj) {
		spec = noReplicas
	}
	out := &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{
			Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: spec},
		Status: autoscalingv1.ScaleStatus{Replicas: status, Selector: selector},
	}
	out.SetGroupVersionKind(scaleGVK)
	return out
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
		obj, err := c.Target.loaded(res.Entry)
		if err != nil {
			return nil, err
		}
		out := scaleOf(obj, s)
		if out.Spec.Replicas == noReplicas {
			return nil, apierrors.NewInternalError(fmt.Errorf("the spec replicas field %q does not exist", pathText(s)))
		}
		return &Result{Code: http.StatusOK, Object: out}, nil
	case client.Update, client.Patch:
		return e.rescale(ctx, c, s)
	default:
		return nil, apierrors.NewMethodNotSupported(gr, string(c.Verb))
	}
}

// rescale changes the replicas of an object through its Scale.
func (e *Engine) rescale(ctx context.Context, c *Call, s *kinds.Scale) (*Result, error) {
	m, err := e.scaleManager()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	w, err := e.transact(ctx, c, c.Target.key(c.namespace(), c.Name), func(ctx context.Context, old kinds.Object) (*outcome, error) {
		if old == nil {
			return nil, apierrors.NewNotFound(c.Target.GVR.GroupResource(), c.Name)
		}
		before := scaleOf(old, s)
		// Who manages the replicas of the object manages those of its Scale, and the other way round.
		fields := managedfields.NewScaleHandler(old.GetManagedFields(), c.Target.GVR.GroupVersion(), c.Target.replicasPaths())
		var err error
		if before.ManagedFields, err = fields.ToSubresource(); err != nil {
			return nil, err
		}
		after, err := c.newScale(ctx, m, before)
		if err != nil {
			return nil, err
		}
		if after.Spec.Replicas == noReplicas {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("the spec replicas field %q cannot be empty", pathText(s)))
		}
		if err := e.admitScale(ctx, c, after, before); err != nil {
			return nil, err
		}
		entries, err := fields.ToParent(after.ManagedFields)
		if err != nil {
			return nil, err
		}
		out, err := e.rescaled(ctx, c, s, after, entries, old)
		if err != nil {
			return out, err
		}
		return out, e.judgeScale(ctx, c, s, out.obj, old)
	})
	if err != nil {
		return nil, err
	}
	obj, err := w.object(c.Target)
	if err != nil {
		return nil, err
	}
	return &Result{Code: http.StatusOK, Object: scaleOf(obj, s)}, nil
}

// pathText is where the desired replicas of custom resources are, as their definition says it.
func pathText(s *kinds.Scale) string { return "." + strings.Join(s.Path, ".") }

// replicasPaths say where each version of the kind keeps its replicas: nowhere, if it has no scale.
func (t *Target) replicasPaths() managedfields.ResourcePathMappings {
	out := managedfields.ResourcePathMappings{}
	for _, served := range [][]kinds.Served{t.Kind.Served, t.Kind.OnRequest} {
		for i := range served {
			gv := served[i].GroupVersion()
			out[gv.String()] = t.replicasPath(gv)
		}
	}
	return out
}

func (t *Target) replicasPath(gv schema.GroupVersion) fieldpath.Path {
	if t.Custom == nil {
		return fieldpath.MakePathOrDie("spec", "replicas")
	}
	s := t.Custom.Scale(gv)
	if s == nil {
		return nil
	}
	var path fieldpath.Path
	for _, name := range s.Path {
		path = append(path, fieldpath.PathElement{FieldName: &name})
	}
	return path
}

// scaleManager is the field manager of Scale objects, whatever they scale.
func (e *Engine) scaleManager() (*patch.Manager, error) {
	converter, err := e.types()
	if err != nil {
		return nil, err
	}
	return patch.NewManager(patch.ManagerConfig{
		Types: converter, Kind: scaleGVK, Hub: scaleGVK.GroupVersion(), Subresource: "scale",
		Convert: func(obj runtime.Object, _ schema.GroupVersion) (runtime.Object, error) {
			tree, ok := obj.(*unstructured.Unstructured)
			if !ok {
				return obj, nil
			}
			typed := &autoscalingv1.Scale{}
			return typed, runtime.DefaultUnstructuredConverter.FromUnstructured(tree.Object, typed)
		},
		New: func(schema.GroupVersionKind) (runtime.Object, error) {
			empty := &autoscalingv1.Scale{}
			empty.SetGroupVersionKind(scaleGVK)
			return empty, nil
		},
		Default: func(runtime.Object) {},
	})
}

// newScale is the Scale that the call asks for, with its record of managers.
func (c *Call) newScale(ctx context.Context, m *patch.Manager, before *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
	agent := ""
	if st := request.From(ctx); st != nil {
		agent = st.UserAgent
	}
	var after *autoscalingv1.Scale
	switch {
	case c.Verb == client.Update:
		given, ok := c.Object.(*autoscalingv1.Scale)
		if !ok {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("wrong object passed to Scale update: %T", c.Object))
		}
		after = given.DeepCopy()
		if err := checkNamespace(after, c.namespace()); err != nil {
			return nil, err
		}
	case c.PatchType == applyPatch:
		return c.appliedScale(m, before)
	default:
		var err error
		if after, err = c.patchedScale(ctx, before); err != nil {
			return nil, err
		}
	}
	if err := checkName(after, c.Name, c.Namespace); err != nil {
		return nil, err
	}
	after.SetGroupVersionKind(scaleGVK)
	m.Update(before, after, patch.ManagerName(c.manager(), agent))
	return after, nil
}

func (c *Call) appliedScale(m *patch.Manager, before *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
	if err := c.checkPatch(); err != nil {
		return nil, err
	}
	applied, _, err := patch.Applied(c.Patch)
	if err != nil {
		return nil, err
	}
	merged, err := m.Apply(before, applied, c.Change.FieldManager, c.Change.Force != nil && *c.Change.Force)
	if err != nil {
		return nil, err
	}
	after, ok := merged.(*autoscalingv1.Scale)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("apply made a %T", merged))
	}
	return after, checkName(after, c.Name, c.Namespace)
}

func (c *Call) patchedScale(ctx context.Context, before *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
	if err := c.checkPatch(); err != nil {
		return nil, err
	}
	after := &autoscalingv1.Scale{}
	strict := c.strict()
	if c.PatchType == types.StrategicMergePatchType {
		if err := patch.Strategic(before, c.Patch, after, strict); err != nil {
			return nil, err
		}
	} else {
		doc, err := json.Marshal(before)
		if err != nil {
			return nil, err
		}
		if doc, err = patch.Document(c.PatchType, doc, c.Patch, strict); err != nil {
			return nil, err
		}
		mode := codec.Lenient
		if strict != nil {
			mode = codec.Strict
		}
		_, found, err := codec.Decode(doc, codec.JSON, after, mode, scaleGVK)
		if err != nil {
			return nil, patch.Invalid(string(doc), err)
		}
		if strict != nil {
			strict.Errors = append(strict.Errors, found...)
		}
	}
	return after, c.report(ctx, strict, func() string { return string(c.Patch) })
}

// judgeScale asks the validating plugins about the Scale of the object as it is to be stored.
func (e *Engine) judgeScale(ctx context.Context, c *Call, s *kinds.Scale, next, old kinds.Object) error {
	return e.judge(ctx, e.attributes(ctx, c, admission.Update, scaleOf(next, s), scaleOf(old, s)))
}

// admitScale runs the mutating plugins on the Scale that the call asks for, and validates it.
func (e *Engine) admitScale(ctx context.Context, c *Call, after, before *autoscalingv1.Scale) error {
	after.SetGroupVersionKind(scaleGVK)
	if err := e.alter(ctx, e.attributes(ctx, c, admission.Update, after, before)); err != nil {
		return err
	}
	if after.Spec.Replicas < 0 && c.Target.Custom == nil { // The validation of a custom resource names the field that is meant.
		return apierrors.NewInvalid(scaleGVK.GroupKind(), c.Name, field.ErrorList{
			field.Invalid(field.NewPath("spec", "replicas"), after.Spec.Replicas, "must be greater than or equal to 0"),
		})
	}
	return nil
}

// rescaled is the object with the Scale's replicas.
func (e *Engine) rescaled(
	ctx context.Context, c *Call, s *kinds.Scale, after *autoscalingv1.Scale, managers []metav1.ManagedFieldsEntry, old kinds.Object,
) (*outcome, error) {
	if v := after.ResourceVersion; v != "" && v != old.GetResourceVersion() {
		return nil, apierrors.NewConflict(c.Target.GVR.GroupResource(), c.Name, errors.New(optimisticLock))
	}
	if after.UID != "" && after.UID != old.GetUID() {
		return nil, apierrors.NewConflict(c.Target.GVR.GroupResource(), c.Name,
			otherUID(after.UID, old.GetUID()))
	}
	next := old.DeepCopyObject().(kinds.Object)
	s.Set(next, after.Spec.Replicas)
	next.SetManagedFields(managers)
	req := e.strategyRequest(ctx, c, metav1.Now().Rfc3339Copy())
	c.Target.prepareUpdate(nil, req, next, old)
	keepSystemFields(next, old)
	if errs := c.Target.validateUpdate(nil, req, next, old); len(errs) > 0 {
		return nil, invalid(c, c.Name, errs)
	}
	patch.KeepTimes(next, old)
	return &outcome{obj: next}, nil
}
