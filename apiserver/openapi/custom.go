// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/kinds"
)

// Custom is a custom resource at one version, whose paths are made like those of built-in kinds.
type Custom struct {
	schema.GroupVersionKind
	Resource                  string
	Namespaced, Status, Scale bool
	// Model and List name its schemas.
	Model, List string
}

// scaleKind is what the subresource scale of any resource speaks of, and scaleModel its schema.
var scaleKind = schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}

const scaleModel = "io.k8s.api.autoscaling.v1.Scale"

// addCustom adds the paths of a custom resource.
func (b *builder) addCustom(c *Custom) {
	own := &builder{
		names: map[schema.GroupVersionKind]string{
			c.GroupVersionKind: c.Model, c.GroupVersion().WithKind(c.Kind + "List"): c.List, scaleKind: scaleModel,
		},
		defs: b.defs, doc: b.doc, ref: b.ref, custom: true,
	}
	k := &kinds.Kind{Resource: c.Resource, Namespaced: c.Namespaced}
	verbs := []string{"get", "patch", "update"}
	if c.Status {
		k.Subresources = append(k.Subresources, kinds.Subresource{Name: "status", Verbs: verbs})
	}
	if c.Scale {
		k.Subresources = append(k.Subresources, kinds.Subresource{Name: "scale", Verbs: verbs, GroupVersionKind: scaleKind})
	}
	own.addKind(k, &kinds.Served{GroupVersionKind: c.GroupVersionKind})
	b.wanted = append(b.wanted, own.wanted...)
}

// wantPaths has everything that the paths of a ready document refer to.
func (b *builder) wantPaths(paths map[string]any) error {
	for _, item := range paths {
		raw, err := json.Marshal(item)
		if err != nil {
			return err
		}
		b.wanted = append(b.wanted, references(raw)...)
	}
	return nil
}
