// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package aggregation

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/discovery"
	"kogge.dev/kogge/apiserver/openapi"
)

// findings are what a remote server says about itself; immutable.
type findings struct {
	version apidiscoveryv2.APIVersionDiscovery
	openapi *openapi.Source
}

const aggregatedAccept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"

// discover reads the server's resources and schemas.
func (r *remote) discover(ctx context.Context) error {
	f := &findings{version: apidiscoveryv2.APIVersionDiscovery{Version: r.spec.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}}
	body, code, err := r.get(ctx, "/apis", aggregatedAccept)
	if err != nil {
		return err
	}
	if !r.fromAggregated(body, code, f) {
		if err := r.fromLegacy(ctx, f); err != nil {
			return err
		}
	}
	// Schemas are a courtesy: a server without them is served all the same.
	if body, code, err = r.get(ctx, "/openapi/v3/apis/"+r.spec.Group+"/"+r.spec.Version, "application/json"); err == nil && code == 200 {
		f.openapi = parseOpenAPI(body)
	}
	r.found.Store(f)
	return nil
}

func (r *remote) fromAggregated(body []byte, code int, f *findings) bool {
	var list apidiscoveryv2.APIGroupDiscoveryList
	if code != 200 || json.Unmarshal(body, &list) != nil || list.Kind != "APIGroupDiscoveryList" {
		return false
	}
	for _, g := range list.Items {
		if g.Name != r.spec.Group {
			continue
		}
		for _, v := range g.Versions {
			if v.Version == r.spec.Version {
				f.version.Resources = v.Resources
				return true
			}
		}
	}
	return false
}

// fromLegacy converts the older list, in which subresources stand beside their parents.
func (r *remote) fromLegacy(ctx context.Context, f *findings) error {
	path := "/apis/" + r.spec.Group + "/" + r.spec.Version
	body, code, err := r.get(ctx, path, "application/json")
	if err != nil {
		return err
	}
	var list metav1.APIResourceList
	if code != 200 {
		return fmt.Errorf("bad status from https://%s%s: %d", r.host, path, code)
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return fmt.Errorf("discovery of https://%s%s: %w", r.host, path, err)
	}
	for i := range list.APIResources {
		f.add(&list.APIResources[i], schema.GroupVersion{Group: r.spec.Group, Version: r.spec.Version})
	}
	return nil
}

func (f *findings) add(res *metav1.APIResource, gv schema.GroupVersion) {
	kind := &metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: res.Kind}
	if res.Version != "" {
		kind.Group, kind.Version = res.Group, res.Version
	}
	if parent, sub, ok := strings.Cut(res.Name, "/"); ok {
		i := slices.IndexFunc(f.version.Resources, func(x apidiscoveryv2.APIResourceDiscovery) bool { return x.Resource == parent })
		if i >= 0 {
			f.version.Resources[i].Subresources = append(f.version.Resources[i].Subresources,
				apidiscoveryv2.APISubresourceDiscovery{Subresource: sub, ResponseKind: kind, Verbs: res.Verbs})
		}
		return
	}
	scope := apidiscoveryv2.ScopeCluster
	if res.Namespaced {
		scope = apidiscoveryv2.ScopeNamespace
	}
	f.version.Resources = append(f.version.Resources, apidiscoveryv2.APIResourceDiscovery{
		Resource: res.Name, ResponseKind: kind, Scope: scope, SingularResource: res.SingularName, Verbs: res.Verbs,
		ShortNames: res.ShortNames, Categories: res.Categories,
	})
}

func parseOpenAPI(body []byte) *openapi.Source {
	var doc struct {
		Paths      map[string]any `json:"paths"`
		Components struct {
			Schemas map[string]json.RawMessage `json:"schemas"`
		} `json:"components"`
	}
	if json.Unmarshal(body, &doc) != nil || doc.Paths == nil {
		return nil
	}
	source, err := openapi.Made(openapi.Document{Paths: doc.Paths, Schemas: doc.Components.Schemas})
	if err != nil {
		return nil
	}
	return &source
}

// builtInLocked adds the group-versions of this process's own handlers that no remote server has taken over.
func (g *Aggregator) builtInLocked(groups map[string]*discovery.Group) {
	for gv, list := range g.cfg.BuiltInResources {
		if g.remotes[gv] != nil {
			continue
		}
		f := &findings{version: apidiscoveryv2.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}}
		for i := range list.APIResources {
			f.add(&list.APIResources[i], gv)
		}
		group := groups[gv.Group]
		if group == nil {
			group = &discovery.Group{Priority: builtInPriority, VersionPriority: map[string]int32{}}
			group.Discovery.Name = gv.Group
			groups[gv.Group] = group
		}
		group.Discovery.Versions = append(group.Discovery.Versions, f.version)
	}
}

// builtInPriority is what metrics-server registers its group with.
const builtInPriority = 100

// publish puts all remote and built-in group-versions into discovery, and the schemas of remote ones into OpenAPI. A server
// that does not answer stays listed, as stale.
func (g *Aggregator) publish() {
	g.mu.RLock()
	groups := map[string]*discovery.Group{}
	g.builtInLocked(groups)
	documents := map[string]openapi.Source{}
	for gv, r := range g.remotes {
		group := groups[gv.Group]
		if group == nil {
			group = &discovery.Group{VersionPriority: map[string]int32{}}
			group.Discovery.Name = gv.Group
			groups[gv.Group] = group
		}
		group.Priority = max(group.Priority, int(r.spec.GroupPriorityMinimum))
		group.VersionPriority[gv.Version] = r.spec.VersionPriority
		version := apidiscoveryv2.APIVersionDiscovery{Version: gv.Version}
		if f := r.found.Load(); f != nil {
			version = *f.version.DeepCopy()
			if f.openapi != nil {
				documents["apis/"+gv.Group+"/"+gv.Version] = *f.openapi
			}
		}
		if !r.available.Load() {
			version.Freshness = apidiscoveryv2.DiscoveryFreshnessStale
		}
		group.Discovery.Versions = append(group.Discovery.Versions, version)
	}
	g.mu.RUnlock()
	out := slices.Collect(maps.Values(groups))
	slices.SortFunc(out, func(a, b *discovery.Group) int { return strings.Compare(a.Discovery.Name, b.Discovery.Name) })
	g.cfg.Registry.Set("aggregated", out)
	if g.cfg.OpenAPI != nil {
		g.cfg.OpenAPI.Set("aggregated", documents)
	}
}
