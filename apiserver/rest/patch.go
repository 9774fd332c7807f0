// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/patch"
)

const applyPatch = types.ApplyYAMLPatchType

func (e *Engine) patch(ctx context.Context, c *Call) (*Result, error) {
	if err := c.checkPatch(); err != nil {
		return nil, err
	}
	r := &rewrite{engine: e, call: c}
	if c.PatchType == applyPatch {
		applied, duplicates, err := patch.Applied(c.Patch)
		if err != nil {
			return nil, err
		}
		r.allowCreate = c.Subresource == ""
		r.next = func(ctx context.Context, old kinds.Object) (kinds.Object, error) {
			return e.apply(ctx, c, applied, duplicates, old)
		}
		return r.run(ctx)
	}
	r.next = func(ctx context.Context, old kinds.Object) (kinds.Object, error) {
		next, err := c.patched(ctx, old)
		if err != nil {
			return nil, err
		}
		if err := c.checkIdentity(next); err != nil {
			return nil, err
		}
		if r.untracked {
			next.SetManagedFields(nil)
			return next, nil
		}
		return e.track(ctx, c, old, next), nil
	}
	return r.run(ctx)
}

func (c *Call) checkPatch() error {
	opts := c.Change
	if opts == nil {
		opts = &metav1.PatchOptions{}
	}
	if errs := metavalidation.ValidatePatchOptions(opts, c.PatchType); len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "PatchOptions"}, "", errs)
	}
	switch c.PatchType {
	case types.JSONPatchType, types.MergePatchType, applyPatch:
		return nil
	case types.StrategicMergePatchType:
		if c.Target.Custom == nil {
			return nil
		}
	default:
	}
	return apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "", schema.GroupResource{}, "",
		fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %v", c.patchTypes()), 0, false)
}

func (c *Call) patchTypes() []string {
	if c.Target.Custom != nil {
		return patch.CustomTypes
	}
	return patch.Types
}

func (c *Call) checkIdentity(obj kinds.Object) error {
	if err := checkNamespace(obj, c.namespace()); err != nil {
		return err
	}
	return checkName(obj, c.Name, c.namespace())
}

// strict collects decoding errors where the request wants to hear of them.
func (c *Call) strict() *patch.Strict {
	if c.validation() == metav1.FieldValidationIgnore {
		return nil
	}
	return &patch.Strict{}
}

// report warns of, or refuses, what strict decoding found; describe renders the patch for the refusal.
func (c *Call) report(ctx context.Context, strict *patch.Strict, describe func() string) error {
	if strict == nil || len(strict.Errors) == 0 {
		return nil
	}
	if c.validation() == metav1.FieldValidationStrict {
		return patch.Invalid(describe(), runtime.NewStrictDecodingError(strict.Errors))
	}
	for _, err := range strict.Errors {
		warn(ctx, err.Error())
	}
	return nil
}

// patched applies the call's JSON, merge or strategic merge patch to old, which stays as it is, at the target's version.
func (c *Call) patched(ctx context.Context, old kinds.Object) (kinds.Object, error) {
	shared, err := c.Target.show(old)
	if err != nil {
		return nil, err
	}
	next := c.patchedPart(shared)
	if next == nil {
		strict := c.strict()
		var describe func() string
		if next, describe, err = c.patchOf(shared, strict); err != nil {
			return nil, err
		}
		if err := c.report(ctx, strict, describe); err != nil {
			return nil, err
		}
	}
	next.GetObjectKind().SetGroupVersionKind(c.Target.Served.GroupVersionKind)
	return c.Target.take(next)
}

// patchedPart applies the patch to only those fields that it touches: few, in most patches. It returns nil where that can't be done, or where
// there is something to say about the patch, which is better said of the whole.
func (c *Call) patchedPart(shared kinds.Object) kinds.Object {
	fields, ok := patch.Touched(c.PatchType, c.Patch)
	if !ok {
		return nil
	}
	part, ok := patch.Part(shared, fields)
	if !ok {
		return nil
	}
	strict := c.strict()
	next, _, err := c.patchOf(part.(kinds.Object), strict)
	if err != nil || strict != nil && len(strict.Errors) > 0 {
		return nil
	}
	patch.Complete(next, shared, fields, c.kept()...)
	return next
}

// kept are fields that the call leaves as they are, whatever it says. They are most of what is packed, whose new state shares them with the old one
// while it is made.
func (c *Call) kept() []string {
	if c.Subresource == "status" && c.Target.Kind.Storage.Packed {
		return []string{"spec"}
	}
	return nil
}

// patchOf applies the patch to an object of the served version. describe renders the patch, or what it made, for messages.
func (c *Call) patchOf(shared kinds.Object, strict *patch.Strict) (next kinds.Object, describe func() string, err error) {
	next = c.Target.Served.Blank()
	if c.PatchType == types.StrategicMergePatchType {
		return next, func() string {
			var change map[string]any
			_ = json.Unmarshal(c.Patch, &change)
			return fmt.Sprintf("%+v", change)
		}, patch.Strategic(shared, c.Patch, next, strict)
	}
	doc, err := json.Marshal(shared)
	if err != nil {
		return nil, nil, err
	}
	if doc, err = patch.Document(c.PatchType, doc, c.Patch, strict); err != nil {
		return nil, nil, err
	}
	describe = func() string { return string(doc) }
	mode := codec.Lenient
	if strict != nil {
		mode = codec.Strict
	}
	gvk, found, err := codec.Decode(doc, codec.JSON, next, mode, c.Target.Served.GroupVersionKind)
	if err != nil {
		return nil, nil, patch.Invalid(string(doc), err)
	}
	if gvk != c.Target.Served.GroupVersionKind {
		return nil, nil, patch.Invalid(string(doc), fmt.Errorf("the patched object is a %s, not a %s", gvk, c.Target.Served.GroupVersionKind))
	}
	if strict != nil {
		strict.Errors = append(strict.Errors, found...)
	}
	if next, err = c.complete(next, strict); err != nil {
		return nil, nil, patch.Invalid(string(doc), err)
	}
	return next, describe, nil
}

// complete runs a custom resource's schema over a decoded object.
func (c *Call) complete(obj kinds.Object, strict *patch.Strict) (kinds.Object, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok || c.Target.Custom == nil {
		return obj, nil
	}
	unknown, err := c.Target.Custom.Complete(c.Target.Served.GroupVersion(), u)
	if err != nil {
		return nil, err
	}
	if strict != nil {
		for _, text := range unknown {
			strict.Errors = append(strict.Errors, fmt.Errorf("%s", text))
		}
	}
	return u, nil
}

// apply merges an applied configuration, in which keys may be there twice, into old; nil old creates.
func (e *Engine) apply(ctx context.Context, c *Call, applied *unstructured.Unstructured, duplicates error, old kinds.Object) (kinds.Object, error) {
	m, err := e.manager(c.Target, c.Subresource)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	live := old
	if live == nil {
		live = c.Target.blank()
	}
	force := c.Change.Force != nil && *c.Change.Force
	merged, err := m.Apply(live, applied.DeepCopy(), c.Change.FieldManager, force)
	if err != nil {
		return nil, err
	}
	next, ok := merged.(kinds.Object)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("apply made a %T", merged))
	}
	if c.Target.Served.ToStorage != nil && c.Target.Custom == nil && c.Target.Kind.Default != nil && next != live {
		c.Target.Kind.Default(next) // what was merged has the defaults of its own version, if any
	}
	if err := c.reportDuplicates(ctx, duplicates); err != nil {
		return nil, err
	}
	return next, c.checkIdentity(next)
}

// reportDuplicates warns of, or refuses, keys that are there twice in an applied configuration. Unknown fields were refused by the schema.
func (c *Call) reportDuplicates(ctx context.Context, duplicates error) error {
	switch {
	case duplicates == nil || c.validation() == metav1.FieldValidationIgnore:
		return nil
	case c.validation() == metav1.FieldValidationStrict:
		return apierrors.NewBadRequest(fmt.Sprintf("error strict decoding YAML: %v", duplicates))
	}
	for _, line := range codec.YAMLErrors(duplicates) {
		warn(ctx, line.Error())
	}
	return nil
}
