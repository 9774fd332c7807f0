// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/kinds/catalog"
)

// registry begins all keys of the store.
const registry = "/registry/"

// ResourceOf returns a function that tells which resource's object a key of the store holds. Keys that hold none have names without a group,
// as upstream gives them.
func ResourceOf() func(key string) schema.GroupResource {
	folders := map[string]schema.GroupResource{
		"ranges/serviceips": {Resource: "serviceipallocations"}, "ranges/servicenodeports": {Resource: "servicenodeportallocations"},
		"masterleases": {Resource: "apiserveripinfo"},
	}
	for _, k := range catalog.Known() {
		if k.Storage.Prefix != "" {
			folders[k.Storage.Prefix] = schema.GroupResource{Group: k.Storage.Group, Resource: k.Resource}
		}
	}
	return func(key string) schema.GroupResource {
		path := strings.TrimPrefix(key, registry)
		one, rest, _ := strings.Cut(path, "/")
		two, _, _ := strings.Cut(rest, "/")
		// Built-in resources have folders of one part or two; those that are not built in have their group's and their own.
		if gr, ok := folders[one+"/"+two]; ok {
			return gr
		}
		if gr, ok := folders[one]; ok {
			return gr
		}
		return schema.GroupResource{Group: one, Resource: two}
	}
}
