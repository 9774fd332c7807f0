// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/client"
)

// Scales reaches the scale subresource of any kind, built in or defined by a CustomResourceDefinition.
type Scales struct {
	client      *client.Client
	definitions *client.Informer[*apiextensionsv1.CustomResourceDefinition]
}

// NewScales makes it for a controller.
func NewScales(scope Scope) *Scales {
	return &Scales{client: scope.Client, definitions: Definitions(scope.Informers)}
}

// Resource returns the resource of a kind. An unknown version of a known kind is replaced by one that is served.
func (s *Scales) Resource(gvk schema.GroupVersionKind) (schema.GroupVersionResource, error) {
	catalog := s.client.Catalog()
	if kind, _ := catalog.ByKind(gvk); kind != nil {
		return gvk.GroupVersion().WithResource(kind.Resource), nil
	}
	if group, ok := catalog.Group(gvk.Group); ok {
		for _, version := range group.Versions {
			if kind, _ := catalog.ByKind(version.WithKind(gvk.Kind)); kind != nil {
				return version.WithResource(kind.Resource), nil
			}
		}
	}
	for d := range s.definitions.All() {
		if d.Spec.Group != gvk.Group || d.Spec.Names.Kind != gvk.Kind {
			continue
		}
		if version := ServedVersion(d, gvk.Version); version != "" {
			return schema.GroupVersionResource{Group: gvk.Group, Version: version, Resource: d.Spec.Names.Plural}, nil
		}
	}
	return schema.GroupVersionResource{}, fmt.Errorf("no matches for kind %q in group %q", gvk.Kind, gvk.Group)
}

// Get reads the scale of an object.
func (s *Scales) Get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (*autoscalingv1.Scale, error) {
	return s.do(ctx, &client.Request{Verb: client.Get, Resource: gvr, Namespace: namespace, Name: name})
}

// Update writes the scale of an object; a conflict is an error.
func (s *Scales) Update(ctx context.Context, gvr schema.GroupVersionResource, scale *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
	return s.do(ctx, &client.Request{Verb: client.Update, Resource: gvr, Namespace: scale.Namespace, Name: scale.Name, Object: scale})
}

func (s *Scales) do(ctx context.Context, req *client.Request) (*autoscalingv1.Scale, error) {
	req.Subresource, req.Into = "scale", func() runtime.Object { return &autoscalingv1.Scale{} }
	answer, err := s.client.Backend().Do(ctx, req)
	if err != nil {
		return nil, err
	}
	scale, ok := answer.Object.(*autoscalingv1.Scale)
	if !ok {
		return nil, fmt.Errorf("scale of %s %s/%s is a %T", req.Resource.GroupResource(), req.Namespace, req.Name, answer.Object)
	}
	return scale, nil
}
