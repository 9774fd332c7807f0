// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"

	"kogge.dev/kogge/kinds"
)

// version is one version of a definition. What is expensive (structural schema, validators, CEL programs, columns) is made on first use: a
// cluster with hundreds of definitions that nobody touches pays for none.
type version struct {
	of *served
	// spec is without schema and columns.
	spec *apiextensionsv1.CustomResourceDefinitionVersion
	// kind and subresources are what discovery shows of it; room is for the latter.
	kind         metav1.GroupVersionKind
	subresources []apidiscoveryv2.APISubresourceDiscovery
	room         [2]apidiscoveryv2.APISubresourceDiscovery

	mu sync.Mutex
	// used is what was compiled of the schema, nil before.
	used *compiledVersion
	// table is what was made of the columns, nil before.
	table *kinds.Table
}

// compiledVersion is immutable and safe for concurrent use.
type compiledVersion struct {
	structural *structuralschema.Structural
	// bare is set where the version has no schema.
	bare      bool
	validator func() (validation.SchemaValidator, error)
	// status judges the status field alone; nil when the schema says nothing about it.
	status func() (validation.SchemaValidator, error)
	cel    func() *schemacel.Validator
}

// read returns the version with schema and columns, shared with others.
func (v *version) read() (*apiextensionsv1.CustomResourceDefinitionVersion, error) {
	return v.of.read.version(v.of.crd.Name, v.spec.Name)
}

// preserve reports whether unknown fields are kept.
func (v *version) preserve() bool { return v.of.crd.Spec.PreserveUnknownFields }

// compiled returns what is compiled of the schema, and keeps it.
func (v *version) compiled() (*compiledVersion, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.used != nil {
		return v.used, nil
	}
	c, err := v.compile()
	if err == nil {
		v.used = c
	}
	return c, err
}

// glance is compiled for those who need it once: it is not kept for them.
func (v *version) glance() (*compiledVersion, error) {
	v.mu.Lock()
	used := v.used
	v.mu.Unlock()
	if used != nil {
		return used, nil
	}
	return v.compile()
}

func (v *version) compile() (*compiledVersion, error) {
	whole, err := v.read()
	if err != nil {
		return nil, err
	}
	props, err := internalSchema(whole.Schema.DeepCopy()) // what it becomes shares parts with it
	if err != nil {
		return nil, err
	}
	c, err := compile(props)
	if err != nil {
		return nil, fmt.Errorf("version %s: %w", v.spec.Name, err)
	}
	return c, nil
}

func compile(props *apiextensions.JSONSchemaProps) (*compiledVersion, error) {
	bare := props == nil
	if bare {
		props = &apiextensions.JSONSchemaProps{Type: "object", XPreserveUnknownFields: new(true)}
	}
	structural, err := structuralschema.NewStructural(props)
	if err != nil {
		return nil, fmt.Errorf("schema is not structural: %w", err)
	}
	if err := defaulting.PruneDefaults(structural); err != nil {
		return nil, fmt.Errorf("prune defaults: %w", err)
	}
	out := &compiledVersion{structural: structural, bare: bare}
	out.validator = sync.OnceValues(func() (validation.SchemaValidator, error) {
		v, _, err := validation.NewSchemaValidator(props)
		return v, err
	})
	out.status = func() (validation.SchemaValidator, error) { return nil, nil }
	if status, ok := props.Properties["status"]; ok {
		out.status = sync.OnceValues(func() (validation.SchemaValidator, error) {
			v, _, err := validation.NewSchemaValidator(&status)
			return v, err
		})
	}
	out.cel = sync.OnceValue(func() *schemacel.Validator {
		return schemacel.NewValidator(structural, true, celconfig.PerCallLimit)
	})
	return out, nil
}

// complete brings a client's object of this version into form: it sets defaults, drops unknown fields (unless they are to be
// preserved) and checks metadata. It returns the paths of what it dropped.
func (v *version) complete(obj *unstructured.Unstructured) (unknown []string, err error) {
	c, err := v.compiled()
	if err != nil {
		return nil, err
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(obj.Object, c.structural)
	defaulting.Default(obj.Object, c.structural)
	if unknown, err = v.coerce(obj, c); err != nil {
		return nil, err
	}
	for i, path := range unknown {
		unknown[i] = fmt.Sprintf("unknown field %q", path)
	}
	return unknown, nil
}

// converted brings an object that was converted into this version into form: what the version does not know goes, and null where it may not be. It
// gets no defaults, which are those of the version that was stored.
func (v *version) converted(obj *unstructured.Unstructured) error {
	c, err := v.compiled()
	if err != nil {
		return err
	}
	if !v.preserve() {
		defaulting.PruneNonNullableNullsWithoutDefaults(obj.Object, c.structural)
	}
	_, err = v.coerce(obj, c)
	return err
}

// coerce makes metadata what it must be, and drops unknown fields, unless they are to be preserved. It returns the paths of what it dropped.
func (v *version) coerce(obj *unstructured.Unstructured, c *compiledVersion) (unknown []string, err error) {
	meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(obj.Object, objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: true})
	if err != nil {
		return nil, err
	}
	dropped, err := v.prune(obj, c)
	if err != nil {
		return nil, err
	}
	if found {
		if err := objectmeta.SetObjectMeta(obj.Object, meta); err != nil {
			return nil, err
		}
	}
	return append(unknown, dropped...), nil
}

func (v *version) prune(obj *unstructured.Unstructured, c *compiledVersion) ([]string, error) {
	var unknown []string
	if !v.preserve() {
		unknown = append(unknown, pruning.PruneWithOptions(obj.Object, c.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})...)
		fieldErr, paths := objectmeta.CoerceWithOptions(nil, obj.Object, c.structural, false, objectmeta.CoerceOptions{ReturnUnknownFieldPaths: true})
		if fieldErr != nil {
			return nil, fieldErr
		}
		unknown = append(unknown, paths...)
	}
	return unknown, nil
}

// stored brings an object read from the store into form. What the schema no longer knows vanishes from view and, with the next write, from the
// store.
func (v *version) stored(obj *unstructured.Unstructured) {
	c, err := v.compiled()
	if err != nil {
		return
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(obj.Object, c.structural)
	defaulting.Default(obj.Object, c.structural)
	if !v.preserve() {
		pruning.Prune(obj.Object, c.structural, true)
	}
}

// validate judges a new object of this version.
func (v *version) validate(ctx context.Context, obj *unstructured.Unstructured) field.ErrorList {
	c, validator, errs := v.parts()
	if errs != nil {
		return errs
	}
	errs = append(errs, validation.ValidateCustomResource(nil, obj.UnstructuredContent(), validator)...)
	errs = append(errs, v.validateScale(obj, true)...)
	errs = append(errs, objectmeta.Validate(nil, obj.Object, c.structural, false)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, c.structural, obj.Object)...)
	return append(errs, c.rules(ctx, obj.Object, nil, errs, nil)...)
}

// validateUpdate judges a change. Parts that did not change may break rules that were added since (ratcheting).
func (v *version) validateUpdate(ctx context.Context, obj, old *unstructured.Unstructured) field.ErrorList {
	c, validator, errs := v.parts()
	if errs != nil {
		return errs
	}
	correlated := common.NewCorrelatedObject(obj.Object, old.Object, &model.Structural{Structural: c.structural})
	errs = append(errs, validation.ValidateCustomResourceUpdate(nil, obj.UnstructuredContent(), old.UnstructuredContent(), validator, validation.WithRatcheting(correlated))...)
	errs = append(errs, v.validateScale(obj, true)...)
	errs = append(errs, objectmeta.Validate(nil, obj.Object, c.structural, false)...)
	if len(listtype.ValidateListSetsAndMaps(nil, c.structural, old.Object)) == 0 {
		errs = append(errs, listtype.ValidateListSetsAndMaps(nil, c.structural, obj.Object)...)
	}
	return append(errs, c.rules(ctx, obj.Object, old.Object, errs, correlated)...)
}

// validateStatus judges a change of the status subresource: only the status is held against the schema, rules against all.
func (v *version) validateStatus(ctx context.Context, obj, old *unstructured.Unstructured) field.ErrorList {
	c, _, errs := v.parts()
	if errs != nil {
		return errs
	}
	correlated := common.NewCorrelatedObject(obj.Object, old.Object, &model.Structural{Structural: c.structural})
	status, err := c.status()
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	if value, ok := obj.Object["status"]; ok && status != nil {
		errs = append(errs, validation.ValidateCustomResourceUpdate(field.NewPath("status"), value, old.Object["status"], status, validation.WithRatcheting(correlated.Key("status")))...)
	}
	errs = append(errs, v.validateScale(obj, false)...)
	if len(listtype.ValidateListSetsAndMaps(nil, c.structural, old.Object)) == 0 {
		errs = append(errs, listtype.ValidateListSetsAndMaps(nil, c.structural, obj.Object)...)
	}
	return append(errs, c.rules(ctx, obj.Object, old.Object, errs, correlated)...)
}

func (v *version) parts() (*compiledVersion, validation.SchemaValidator, field.ErrorList) {
	c, err := v.compiled()
	if err != nil {
		return nil, nil, field.ErrorList{field.InternalError(nil, err)}
	}
	validator, err := c.validator()
	if err != nil {
		return nil, nil, field.ErrorList{field.InternalError(nil, err)}
	}
	return c, validator, nil
}

// rules evaluates x-kubernetes-validations, unless the object is so wrong already that rules would fail for other reasons than their own.
func (c *compiledVersion) rules(ctx context.Context, obj, old map[string]any, before field.ErrorList, correlated *common.CorrelatedObject) field.ErrorList {
	cel := c.cel()
	if cel == nil {
		return nil
	}
	for _, err := range before {
		switch err.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return field.ErrorList{field.Invalid(nil, nil, "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation")}
		default:
		}
	}
	var opts []schemacel.Option
	if correlated != nil {
		opts = append(opts, schemacel.WithRatcheting(correlated))
	}
	var previous any
	if old != nil {
		previous = old
	}
	errs, _ := cel.Validate(ctx, nil, c.structural, obj, previous, celconfig.RuntimeCELCostBudget, opts...)
	return errs
}

// validateScale checks that replica counts are counts.
func (v *version) validateScale(obj *unstructured.Unstructured, spec bool) field.ErrorList {
	if !v.hasScale() {
		return nil
	}
	s := v.spec.Subresources.Scale
	var errs field.ErrorList
	if spec {
		errs = append(errs, replicaCount(obj, s.SpecReplicasPath)...)
	}
	errs = append(errs, replicaCount(obj, s.StatusReplicasPath)...)
	if s.LabelSelectorPath != nil && *s.LabelSelectorPath != "" {
		if value, _, err := unstructured.NestedString(obj.Object, splitPath(*s.LabelSelectorPath)...); err != nil {
			errs = append(errs, field.Invalid(field.NewPath(*s.LabelSelectorPath), value, err.Error()))
		}
	}
	return errs
}

func replicaCount(obj *unstructured.Unstructured, path string) field.ErrorList {
	const maxReplicas = 1<<31 - 1
	n, _, err := unstructured.NestedInt64(obj.Object, splitPath(path)...)
	p := field.NewPath(path)
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(p, n, err.Error())}
	case n < 0:
		return field.ErrorList{field.Invalid(p, n, "should be a non-negative integer")}
	case n > maxReplicas:
		return field.ErrorList{field.Invalid(p, n, fmt.Sprintf("should be less than or equal to %v", maxReplicas))}
	}
	return nil
}

// splitPath takes ".spec.replicas" apart.
func splitPath(path string) []string { return strings.Split(strings.TrimPrefix(path, "."), ".") }

// hasStatus reports whether the version has the status subresource.
func (v *version) hasStatus() bool {
	return v.spec.Subresources != nil && v.spec.Subresources.Status != nil
}

// hasScale reports whether the version has the scale subresource.
func (v *version) hasScale() bool {
	return v.spec.Subresources != nil && v.spec.Subresources.Scale != nil
}

// sameBut compares two objects with some top-level fields left out.
func sameBut(a, b map[string]any, without ...string) bool {
	strip := func(in map[string]any) map[string]any {
		out := make(map[string]any, len(in))
		maps.Copy(out, in)
		for _, k := range without {
			delete(out, k)
		}
		return out
	}
	return reflect.DeepEqual(strip(a), strip(b))
}
