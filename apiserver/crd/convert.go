// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"context"
	"fmt"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"

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
		out, err := callConversion(ctx, calls, target, version, in, apiVersion)
		if err != nil {
			// Not wrapped: a status in it, as of the way to the webhook, is not the answer to the request.
			return nil, fmt.Errorf("conversion webhook for %s failed: %v", in.GroupVersionKind(), err) //nolint:errorlint // see above
		}
		return out, nil
	}, nil
}

func callConversion(ctx context.Context, calls *outcall.Client, target outcall.Target, version string, in *unstructured.Unstructured, apiVersion string) (*unstructured.Unstructured, error) {
	id := uuid.NewUUID()
	review := apiextensionsv1.ConversionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: apiextensionsv1.GroupName + "/" + version, Kind: "ConversionReview"},
		Request:  &apiextensionsv1.ConversionRequest{UID: id, DesiredAPIVersion: apiVersion, Objects: []runtime.RawExtension{{Object: in}}},
	}
	var answer apiextensionsv1.ConversionReview
	if err := calls.Call(ctx, target, conversionTimeout, &review, &answer); err != nil {
		return nil, err
	}
	r := answer.Response
	switch {
	case r == nil:
		return nil, fmt.Errorf("no response provided")
	case version == "v1" && r.UID != review.Request.UID:
		return nil, fmt.Errorf("expected response.uid=%q, got %q", review.Request.UID, r.UID)
	case r.Result.Status != metav1.StatusSuccess:
		return nil, fmt.Errorf("%s", orElse(r.Result.Message, "conversion was refused without a message"))
	case len(r.ConvertedObjects) != 1:
		return nil, fmt.Errorf("expected 1 converted objects, got %d", len(r.ConvertedObjects))
	}
	out := &unstructured.Unstructured{}
	if err := out.UnmarshalJSON(r.ConvertedObjects[0].Raw); err != nil {
		return nil, fmt.Errorf("converted object at index 0 can't be decoded: %w", err)
	}
	return out, checkConverted(in, out, apiVersion)
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// checkConverted holds a webhook to the rules: kind and identity stay, of the metadata only labels and annotations may change.
func checkConverted(in, out *unstructured.Unstructured, apiVersion string) error {
	switch {
	case out.GetAPIVersion() != apiVersion:
		return fmt.Errorf("expected converted object at index 0 to be in apiVersion %q, got %q", apiVersion, out.GetAPIVersion())
	case out.GetKind() != in.GetKind():
		return fmt.Errorf("invalid converted object at index 0: kind changed from %q to %q", in.GetKind(), out.GetKind())
	case out.GetName() != in.GetName() || out.GetNamespace() != in.GetNamespace() || out.GetUID() != in.GetUID():
		return fmt.Errorf("invalid converted object at index 0: name, namespace and uid must not change")
	}
	meta := runtime.DeepCopyJSON(metaOf(in))
	next := metaOf(out)
	for _, key := range []string{"labels", "annotations"} {
		delete(meta, key)
		if v, ok := next[key]; ok {
			meta[key] = v
		}
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
