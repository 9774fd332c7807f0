// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"slices"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeversion "k8s.io/apimachinery/pkg/version"

	"kogge.dev/kogge/apiserver/discovery"
)

// groupPriority of custom groups, as upstream registers them.
const groupPriority = 1000

// group describes what is served of a group for discovery; nil if nothing is.
func (c *Controller) group(group string) *discovery.Group {
	versions := map[string][]apidiscoveryv2.APIResourceDiscovery{}
	for _, s := range c.servedOf(group) {
		for i := range s.versions {
			if v := &s.versions[i]; v.spec.Served {
				versions[v.spec.Name] = append(versions[v.spec.Name], v.discover())
			}
		}
	}
	if len(versions) == 0 {
		return nil
	}
	g := &discovery.Group{Priority: groupPriority, Discovery: apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: group}}}
	for name, resources := range versions {
		slices.SortFunc(resources, func(a, b apidiscoveryv2.APIResourceDiscovery) int { return compareText(a.Resource, b.Resource) })
		g.Discovery.Versions = append(g.Discovery.Versions, apidiscoveryv2.APIVersionDiscovery{
			Version: name, Resources: resources, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent,
		})
	}
	slices.SortFunc(g.Discovery.Versions, func(a, b apidiscoveryv2.APIVersionDiscovery) int {
		return kubeversion.CompareKubeAwareVersionStrings(b.Version, a.Version)
	})
	return g
}

// scaleKind is the kind of the scale subresource.
var scaleKind = metav1.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}

// describe fills what discovery shows of a version.
func (v *version) describe() {
	v.kind = metav1.GroupVersionKind(v.of.gvk(v.spec.Name))
	v.subresources = v.room[:0]
	if v.hasStatus() {
		v.subresources = append(v.subresources, apidiscoveryv2.APISubresourceDiscovery{Subresource: "status", ResponseKind: &v.kind, Verbs: subresourceVerbs})
	}
	if v.hasScale() {
		v.subresources = append(v.subresources, apidiscoveryv2.APISubresourceDiscovery{Subresource: "scale", ResponseKind: &scaleKind, Verbs: subresourceVerbs})
	}
}

// discover describes a version for discovery.
func (v *version) discover() apidiscoveryv2.APIResourceDiscovery {
	s := v.of
	verbs := standardVerbs
	if s.terminating.Load() {
		verbs = terminatingVerbs
	}
	out := apidiscoveryv2.APIResourceDiscovery{
		Resource: s.names.Plural, ResponseKind: &v.kind, Scope: apidiscoveryv2.ScopeCluster, SingularResource: s.names.Singular,
		Verbs: verbs, ShortNames: s.names.ShortNames, Categories: s.names.Categories, Subresources: v.subresources,
	}
	if s.kind.Namespaced {
		out.Scope = apidiscoveryv2.ScopeNamespace
	}
	return out
}
