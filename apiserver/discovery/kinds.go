// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"slices"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kversion "k8s.io/apimachinery/pkg/version"

	"kogge.dev/kogge/kinds"
)

// priorities order the built-in groups as upstream's APIServices do; higher comes first.
var priorities = map[string]int{
	"": 18000, "apiregistration.k8s.io": 18000, "extensions": 17900, "apps": 17800, "events.k8s.io": 17750, "authentication.k8s.io": 17700,
	"authorization.k8s.io": 17600, "autoscaling": 17500, "batch": 17400, "certificates.k8s.io": 17300, "networking.k8s.io": 17200,
	"policy": 17100, "rbac.authorization.k8s.io": 17000, "storage.k8s.io": 16800, "apiextensions.k8s.io": 16700,
	"admissionregistration.k8s.io": 16700, "scheduling.k8s.io": 16600, "coordination.k8s.io": 16500, "node.k8s.io": 16300,
	"discovery.k8s.io": 16200, "resource.k8s.io": 16200, "flowcontrol.apiserver.k8s.io": 16100, "internal.apiserver.k8s.io": 16000,
}

// Groups describes built-in kinds, in the order of all.
func Groups(all []*kinds.Kind) []*Group {
	var out []*Group
	for _, k := range all {
		for i := range k.Served {
			addKind(&out, k, &k.Served[i])
		}
	}
	for _, g := range out {
		slices.SortStableFunc(g.Discovery.Versions, func(a, b apidiscoveryv2.APIVersionDiscovery) int {
			return kversion.CompareKubeAwareVersionStrings(b.Version, a.Version)
		})
	}
	return out
}

func addKind(out *[]*Group, k *kinds.Kind, served *kinds.Served) {
	g := slices.IndexFunc(*out, func(g *Group) bool { return g.Discovery.Name == served.Group })
	if g < 0 {
		fresh := &Group{Priority: priorities[served.Group]}
		fresh.Discovery.Name = served.Group
		*out = append(*out, fresh)
		g = len(*out) - 1
	}
	versions := &(*out)[g].Discovery.Versions
	v := slices.IndexFunc(*versions, func(v apidiscoveryv2.APIVersionDiscovery) bool { return v.Version == served.Version })
	if v < 0 {
		*versions = append(*versions, apidiscoveryv2.APIVersionDiscovery{Version: served.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent})
		v = len(*versions) - 1
	}
	(*versions)[v].Resources = append((*versions)[v].Resources, Resource(k, served))
}

// Resource describes one kind at one version.
func Resource(k *kinds.Kind, served *kinds.Served) apidiscoveryv2.APIResourceDiscovery {
	verbs := k.Verbs
	if verbs == nil {
		verbs = kinds.StandardVerbs
	}
	out := apidiscoveryv2.APIResourceDiscovery{
		Resource: k.Resource, SingularResource: k.Singular, ShortNames: k.ShortNames, Categories: k.Categories, Verbs: verbs,
		ResponseKind: kindOf(served.GroupVersionKind, served), Scope: apidiscoveryv2.ScopeCluster,
	}
	if k.Namespaced {
		out.Scope = apidiscoveryv2.ScopeNamespace
	}
	for i := range k.Subresources {
		sub := &k.Subresources[i]
		gvk := served.GroupVersionKind
		if sub.GroupVersionKind.Kind != "" {
			gvk = sub.GroupVersionKind
			if gvk.Version == "" {
				gvk.Group, gvk.Version = served.Group, served.Version
			}
		}
		out.Subresources = append(out.Subresources, apidiscoveryv2.APISubresourceDiscovery{
			Subresource: sub.Name, ResponseKind: kindOf(gvk, served), Verbs: sub.Verbs,
		})
	}
	return out
}

// kindOf names a kind; group and version are left out where they are those of the document.
func kindOf(gvk schema.GroupVersionKind, served *kinds.Served) *metav1.GroupVersionKind {
	if gvk.GroupVersion() == served.GroupVersion() {
		return &metav1.GroupVersionKind{Kind: gvk.Kind}
	}
	return &metav1.GroupVersionKind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind}
}
