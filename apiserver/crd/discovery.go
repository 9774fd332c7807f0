// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"slices"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeversion "k8s.io/apimachinery/pkg/version"

	"kogge.dev/kogge/apiserver/discovery"
)

// groupPriority of custom groups, as upstream registers them.
const groupPriority = 1000

// group describes what is served of a group for discovery; false if nothing is.
func (c *Controller) group(group string) (discovery.Group, bool) {
	versions := map[string][]apidiscoveryv2.APIResourceDiscovery{}
	for _, s := range c.servedOf(group) {
		for _, name := range s.order() {
			versions[name] = append(versions[name], s.discover(name))
		}
	}
	g := discovery.Group{Priority: groupPriority, Discovery: apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: group}}}
	for name, resources := range versions {
		slices.SortFunc(resources, func(a, b apidiscoveryv2.APIResourceDiscovery) int { return compareText(a.Resource, b.Resource) })
		g.Discovery.Versions = append(g.Discovery.Versions, apidiscoveryv2.APIVersionDiscovery{
			Version: name, Resources: resources, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent,
		})
	}
	slices.SortFunc(g.Discovery.Versions, func(a, b apidiscoveryv2.APIVersionDiscovery) int {
		return kubeversion.CompareKubeAwareVersionStrings(b.Version, a.Version)
	})
	return g, len(versions) > 0
}

func (s *served) discover(name string) apidiscoveryv2.APIResourceDiscovery {
	gvk := metav1.GroupVersionKind(s.gvk(name))
	verbs := standardVerbs
	if s.terminating.Load() {
		verbs = terminatingVerbs
	}
	out := apidiscoveryv2.APIResourceDiscovery{
		Resource: s.names.Plural, ResponseKind: &gvk, Scope: apidiscoveryv2.ScopeCluster, SingularResource: s.names.Singular,
		Verbs: verbs, ShortNames: s.names.ShortNames, Categories: s.names.Categories,
	}
	if s.crd.Spec.Scope == apiextensionsv1.NamespaceScoped {
		out.Scope = apidiscoveryv2.ScopeNamespace
	}
	v := s.versions[name]
	sub := func(name string, kind metav1.GroupVersionKind) {
		out.Subresources = append(out.Subresources, apidiscoveryv2.APISubresourceDiscovery{
			Subresource: name, ResponseKind: &kind, Verbs: subresourceVerbs,
		})
	}
	if v.hasStatus() {
		sub("status", gvk)
	}
	if v.spec.Subresources != nil && v.spec.Subresources.Scale != nil {
		sub("scale", metav1.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"})
	}
	return out
}
