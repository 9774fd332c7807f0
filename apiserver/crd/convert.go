// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"kogge.dev/kogge/apiserver/aggregation/outcall"
	"kogge.dev/kogge/kinds"
)

// converter turns an object of one version into another. The input is shared; the result is fresh.
type converter func(ctx context.Context, in *unstructured.Unstructured, apiVersion string) (*unstructured.Unstructured, error)

// conversionTimeout bounds a call of a conversion webhook.
const conversionTimeout = 30 * time.Second

func (s *served) convertTo(obj kinds.Object, version string) (kinds.Object, error) {
	in := asTree(obj)
	if in == nil {
		return nil, fmt.Errorf("convert %s to %s: not a custom object but a %T", s.crd.Name, version, obj)
	}
	target := s.gvk(version).GroupVersion().String()
	if in.GetAPIVersion() == target {
		return in.DeepCopy(), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), conversionTimeout)
	defer cancel()
	out, err := s.convert(ctx, in, target)
	if err != nil {
		return nil, err
	}
	if err := s.version(version).converted(out); err != nil {
		return nil, fmt.Errorf("convert %s to %s: %w", s.crd.Name, version, err)
	}
	return out, nil
}

// relabel is the conversion strategy None: only apiVersion changes.
func relabel(_ context.Context, in *unstructured.Unstructured, apiVersion string) (*unstructured.Unstructured, error) {
	out := in.DeepCopy()
	out.SetAPIVersion(apiVersion)
	return out, nil
}

// newConverter returns the converter that a definition asks for.
func newConverter(crd *apiextensionsv1.CustomResourceDefinition, calls *outcall.Client) (converter, error) {
	c := crd.Spec.Conversion
	if c == nil || c.Strategy == apiextensionsv1.NoneConverter {
		return relabel, nil
	}
	if c.Strategy != apiextensionsv1.WebhookConverter || c.Webhook == nil || c.Webhook.ClientConfig == nil {
		return nil, fmt.Errorf("definition %s: unknown conversion strategy %q", crd.Name, c.Strategy)
	}
	target := outcall.Target{URL: c.Webhook.ClientConfig.URL, CABundle: c.Webhook.ClientConfig.CABundle}
	if svc := c.Webhook.ClientConfig.Service; svc != nil {
		target.Namespace, target.Service, target.Port, target.Path = svc.Namespace, svc.Name, svc.Port, svc.Path
	}
	version := ""
	for _, v := range c.Webhook.ConversionReviewVersions {
		if v == "v1" || v == "v1beta1" {
			version = v
			break
		}
	}
	if version == "" {
		return nil, fmt.Errorf("definition %s: conversion webhook accepts none of the known versions v1, v1beta1", crd.Name)
	}
	return func(ctx context.Context, in *unstructured.Unstructured, apiVersion string) (*unstructured.Unstructured, error) {
		converted, err := callConversion(ctx, calls, target, version, in, apiVersion)
		if err != nil {
			// Not wrapped: a status in it, as of the way to the webhook, is not the answer to the request.
			return nil, fmt.Errorf("conversion webhook for %s failed: %v", in.GroupVersionKind(), err) //nolint:errorlint // see above
		}
		out, err := accepted(in, converted, apiVersion)
		if err != nil {
			return nil, fmt.Errorf("conversion webhook for %s returned %w", in.GroupVersionKind(), err)
		}
		return out, nil
	}, nil
}

func callConversion(ctx context.Context, calls *outcall.Client, target outcall.Target, version string, in *unstructured.Unstructured, apiVersion string) ([]runtime.RawExtension, error) {
	id := uuid.NewUUID()
	review := apiextensionsv1.ConversionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: apiextensionsv1.GroupName + "/" + version, Kind: "ConversionReview"},
		Request:  &apiextensionsv1.ConversionRequest{UID: id, DesiredAPIVersion: apiVersion, Objects: []runtime.RawExtension{{Object: in}}},
		Response: &apiextensionsv1.ConversionResponse{},
	}
	var answer apiextensionsv1.ConversionReview
	if err := calls.Call(ctx, target, conversionTimeout, &review, &answer); err != nil {
		return nil, err
	}
	r := answer.Response
	switch {
	case version == "v1" && answer.GroupVersionKind() != review.GroupVersionKind():
		return nil, fmt.Errorf("expected webhook response of %v, got %v", review.GroupVersionKind(), answer.GroupVersionKind())
	case r == nil:
		return nil, errors.New("no response provided")
	case version == "v1" && r.UID != review.Request.UID:
		return nil, fmt.Errorf("expected response.uid=%q, got %q", review.Request.UID, r.UID)
	case r.Result.Status != metav1.StatusSuccess && r.Result.Message != "":
		return nil, errors.New(r.Result.Message)
	case r.Result.Status != metav1.StatusSuccess:
		return nil, fmt.Errorf("response.result.status was '%s', not 'Success'", r.Result.Status)
	}
	return r.ConvertedObjects, nil
}

// accepted is what a webhook made of an object, held to the rules: kind and identity stay, of the metadata only labels and annotations may change.
func accepted(in *unstructured.Unstructured, converted []runtime.RawExtension, apiVersion string) (*unstructured.Unstructured, error) {
	if len(converted) != 1 {
		return nil, fmt.Errorf("%d objects, expected 1", len(converted))
	}
	out := &unstructured.Unstructured{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(converted[0].Raw, &out.Object); err != nil {
		return nil, fmt.Errorf("invalid converted object at index 0: %w", err)
	}
	if got := out.GetAPIVersion(); got != apiVersion {
		return nil, fmt.Errorf("invalid object at index 0: invalid groupVersion (expected %v, received %v)", apiVersion, got)
	}
	if got := out.GetKind(); got != in.GetKind() {
		return nil, fmt.Errorf("invalid object at index 0: invalid kind (expected %v, received %v)", in.GetKind(), got)
	}
	for _, same := range []struct{ what, before, after string }{
		{"name", in.GetName(), out.GetName()}, {"namespace", in.GetNamespace(), out.GetNamespace()}, {"UID", string(in.GetUID()), string(out.GetUID())},
	} {
		if same.before != same.after {
			return nil, fmt.Errorf("invalid object: must have the same %s: %v != %v", same.what, same.before, same.after)
		}
	}
	if err := restoreMeta(in, out); err != nil {
		return nil, fmt.Errorf("invalid metadata: %w", err)
	}
	return out, nil
}

// restoreMeta gives a converted object the metadata of the original, but for labels and annotations.
func restoreMeta(in, out *unstructured.Unstructured) error {
	meta := runtime.DeepCopyJSON(metaOf(in))
	next, ok := out.Object["metadata"].(map[string]any)
	if !ok {
		return fmt.Errorf("invalid metadata of type %T in converted object", out.Object["metadata"])
	}
	path := field.NewPath("metadata")
	for _, key := range []string{"labels", "annotations"} {
		delete(meta, key)
		if next[key] == nil {
			continue
		}
		values, ok := next[key].(map[string]any)
		if !ok {
			return fmt.Errorf("invalid metadata.%s of type %T in converted object", key, next[key])
		}
		texts := make(map[string]string, len(values))
		for name, value := range values {
			text, ok := value.(string)
			if !ok {
				return fmt.Errorf("metadata.%s[%s] must be a string, but is %T in converted object", key, name, value)
			}
			texts[name] = text
		}
		var errs field.ErrorList
		switch before, _, _ := unstructured.NestedStringMap(metaOf(in), key); {
		case maps.Equal(before, texts): // What was let in once may stay.
		case key == "labels":
			errs = metav1validation.ValidateLabels(texts, path.Child(key))
		default:
			errs = validation.ValidateAnnotations(texts, path.Child(key))
		}
		if len(errs) > 0 {
			return errs.ToAggregate()
		}
		meta[key] = values
	}
	out.Object["metadata"] = meta
	return nil
}

func metaOf(u *unstructured.Unstructured) map[string]any {
	if m, ok := u.Object["metadata"].(map[string]any); ok {
		return m
	}
	return map[string]any{}
}
