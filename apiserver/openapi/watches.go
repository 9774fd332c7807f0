// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"slices"

	"kogge.dev/kogge/kinds"
)

const watchEventModel = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent"

// addWatches adds the paths below watch/, which older clients use instead of the parameter. params are those of the collection.
func (b *builder) addWatches(k *kinds.Kind, served *kinds.Served, root string, params []object) {
	if !k.Allows("watch") {
		return
	}
	gvk := served.GroupVersionKind
	group, scope := idPart(gvk.GroupVersion()), ""
	if k.Namespaced {
		scope = "Namespaced"
	}
	add := func(path, action, id string, params []object) {
		op := b.operation(operation{
			action: action, id: id, text: "watch " + gvk.Kind + "; deprecated: list with the parameter watch instead",
			answer: watchEventModel, media: streamMedia, codes: []string{"200"},
		}, gvk)
		all := slices.Concat(params, listOptions, []object{pretty})
		b.doc.Paths[path] = object{"get": op, "parameters": all}
	}
	collection := root + "watch/" + k.Resource
	if k.Namespaced {
		add(collection, "watchlist", "watch"+group+gvk.Kind+"ListForAllNamespaces", nil)
		collection = root + "watch/namespaces/{namespace}/" + k.Resource
	}
	add(collection, "watchlist", "watch"+group+scope+gvk.Kind+"List", params)
	if k.Allows("get") {
		name := parameter("path", "name", "string", "name of the "+gvk.Kind)
		add(collection+"/{name}", "watch", "watch"+group+scope+gvk.Kind, append(slices.Clone(params), name))
	}
}
