// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package discovery tells clients what is served: the aggregated documents, the legacy ones per group and version, and the resources of each.
package discovery

import (
	"cmp"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kversion "k8s.io/apimachinery/pkg/version"
)

// Registry collects what each source serves. A source is the built-in catalog, the custom resource definitions, or the aggregated
// APIs; each replaces its own groups whole. Reading is lock-free.
type Registry struct {
	stored func(gvr schema.GroupVersionResource) schema.GroupVersionKind

	mu      sync.Mutex
	sources map[string][]*Group

	current atomic.Pointer[snapshot]
}

// Group is one API group as a source describes it. The registry keeps it, and it is not changed any more then.
type Group struct {
	// Discovery in the aggregated form: name, versions, resources. The core group has an empty name.
	Discovery apidiscoveryv2.APIGroupDiscovery
	// VersionPriority sorts versions: higher first (APIService's versionPriority). A version that is not named has that of custom
	// resources. Ties are sorted as Kubernetes compares versions: v2, v1, v1beta1, v1alpha1.
	VersionPriority map[string]int32
	// Priority sorts groups: higher first (APIService's groupPriorityMinimum). Ties are sorted by name.
	Priority int
}

// defaultVersionPriority is what upstream gives the versions of custom resources.
const defaultVersionPriority = 100

// storageHash names the version that a resource is stored in, so that clients see when it changes; empty for what is not stored here.
func (s *snapshot) storageHash(gvr schema.GroupVersionResource) string {
	if s.stored == nil {
		return ""
	}
	gvk := s.stored(gvr)
	if gvk.Empty() {
		return ""
	}
	sum := sha256.Sum256([]byte(gvk.Group + "/" + gvk.Version + "/" + gvk.Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}

// snapshot is an immutable view of all groups, with the documents made from it.
type snapshot struct {
	// core is the group without a name, groups are the others in order.
	core   []*Group
	groups []*Group
	// stored is Registry.stored.
	stored func(gvr schema.GroupVersionResource) schema.GroupVersionKind
	docs   sync.Map // document key to *document
}

// NewRegistry makes an empty registry.
func NewRegistry() *Registry {
	r := &Registry{sources: map[string][]*Group{}}
	r.current.Store(&snapshot{})
	return r
}

// FindStored tells the registry how to find the kind that a resource is stored as, an empty one for what is not stored here. It is
// called before the registry is used.
func (r *Registry) FindStored(stored func(gvr schema.GroupVersionResource) schema.GroupVersionKind) {
	r.stored = stored
}

// Set replaces all groups of a source; nil removes it. Groups of the same name from different sources are merged: they have the
// highest of their priorities, and the versions of all.
func (r *Registry) Set(source string, groups []*Group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(groups) == 0 {
		delete(r.sources, source)
	} else {
		r.sources[source] = groups
	}
	r.current.Store(r.mergeLocked())
}

func (r *Registry) mergeLocked() *snapshot {
	merged := map[string]*Group{}
	names := make([]string, 0, len(r.sources))
	for name := range r.sources {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, source := range names {
		for _, g := range r.sources[source] {
			if have := merged[g.Discovery.Name]; have != nil {
				g = union(have, g)
			}
			merged[g.Discovery.Name] = g
		}
	}
	all := make([]*Group, 0, len(merged))
	for _, g := range merged {
		all = append(all, g.sorted())
	}
	slices.SortFunc(all, func(a, b *Group) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), strings.Compare(a.Discovery.Name, b.Discovery.Name))
	})
	out := &snapshot{stored: r.stored}
	for _, g := range all {
		if g.Discovery.Name == "" {
			out.core = append(out.core, g)
		} else {
			out.groups = append(out.groups, g)
		}
	}
	return out
}

// union returns a new group with what both have.
func union(a, b *Group) *Group {
	out := *a
	out.Priority = max(a.Priority, b.Priority)
	out.Discovery.Versions = slices.Clone(a.Discovery.Versions)
	for _, v := range b.Discovery.Versions {
		versions := &out.Discovery.Versions
		i := slices.IndexFunc(*versions, func(have apidiscoveryv2.APIVersionDiscovery) bool { return have.Version == v.Version })
		if i < 0 {
			*versions = append(*versions, v)
			continue
		}
		have := &(*versions)[i]
		have.Resources = slices.Concat(have.Resources, v.Resources)
	}
	out.VersionPriority = map[string]int32{}
	maps.Copy(out.VersionPriority, a.VersionPriority)
	maps.Copy(out.VersionPriority, b.VersionPriority)
	return &out
}

// sorted returns the group with its versions in order: a new one where they are not.
func (g *Group) sorted() *Group {
	if slices.IsSortedFunc(g.Discovery.Versions, g.compare) {
		return g
	}
	out := *g
	out.Discovery.Versions = slices.Clone(g.Discovery.Versions)
	slices.SortStableFunc(out.Discovery.Versions, g.compare)
	return &out
}

// compare says which of two versions comes first.
func (g *Group) compare(a, b apidiscoveryv2.APIVersionDiscovery) int {
	priority := func(version string) int32 {
		if p, ok := g.VersionPriority[version]; ok {
			return p
		}
		return defaultVersionPriority
	}
	if d := cmp.Compare(priority(b.Version), priority(a.Version)); d != 0 {
		return d
	}
	return kversion.CompareKubeAwareVersionStrings(b.Version, a.Version)
}

// document is one encoded answer with its entity tag.
type document struct {
	data []byte
	etag string
}

// doc returns the document of a key, made on first use.
func (s *snapshot) doc(key string, build func() (any, error)) (*document, error) {
	if d, ok := s.docs.Load(key); ok {
		return d.(*document), nil
	}
	value, err := build()
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	d := &document{data: append(data, '\n'), etag: fmt.Sprintf("%X", sha512.Sum512(data))}
	s.docs.Store(key, d)
	return d, nil
}

// aggregated is the v2 document of the core group (core) or of all others.
func (s *snapshot) aggregated(core bool, apiVersion string) apidiscoveryv2.APIGroupDiscoveryList {
	groups := s.groups
	if core {
		groups = s.core
	}
	list := apidiscoveryv2.APIGroupDiscoveryList{}
	list.Items = slices.Grow(list.Items, len(groups))
	for _, g := range groups {
		list.Items = append(list.Items, g.Discovery)
	}
	list.APIVersion, list.Kind = "apidiscovery.k8s.io/"+apiVersion, "APIGroupDiscoveryList"
	return list
}

// Knows reports whether a group has any version.
func (r *Registry) Knows(group string) bool { return r.current.Load().group(group) != nil }

// Serves tells whether a group-version has any resources.
func (r *Registry) Serves(gv schema.GroupVersion) bool {
	g := r.current.Load().group(gv.Group)
	return g != nil && slices.ContainsFunc(g.Versions, func(v apidiscoveryv2.APIVersionDiscovery) bool { return v.Version == gv.Version })
}

// group returns a group by name, or nil.
func (s *snapshot) group(name string) *apidiscoveryv2.APIGroupDiscovery {
	groups := s.groups
	if name == "" {
		groups = s.core
	}
	for _, g := range groups {
		if g.Discovery.Name == name {
			return &g.Discovery
		}
	}
	return nil
}

// legacyGroup is the unaggregated form of a group.
func legacyGroup(g *apidiscoveryv2.APIGroupDiscovery) metav1.APIGroup {
	out := metav1.APIGroup{Name: g.Name}
	for _, v := range g.Versions {
		gv := v.Version
		if g.Name != "" {
			gv = g.Name + "/" + v.Version
		}
		out.Versions = append(out.Versions, metav1.GroupVersionForDiscovery{GroupVersion: gv, Version: v.Version})
	}
	if len(out.Versions) > 0 {
		out.PreferredVersion = out.Versions[0]
	}
	return out
}

// legacyResources is the unaggregated list of a version's resources.
func (s *snapshot) legacyResources(group string, v *apidiscoveryv2.APIVersionDiscovery) metav1.APIResourceList {
	gv := v.Version
	if group != "" {
		gv = group + "/" + v.Version
	}
	out := metav1.APIResourceList{GroupVersion: gv, APIResources: []metav1.APIResource{}}
	out.APIVersion, out.Kind = "v1", "APIResourceList"
	if group == "" {
		out.APIVersion = "" // As upstream's document of /api/v1.
	}
	for _, r := range v.Resources {
		namespaced := r.Scope == apidiscoveryv2.ScopeNamespace
		main := metav1.APIResource{
			Name: r.Resource, SingularName: r.SingularResource, Namespaced: namespaced, Verbs: metav1.Verbs(r.Verbs),
			ShortNames: r.ShortNames, Categories: r.Categories, StorageVersionHash: s.storageHash(schema.GroupVersionResource{Group: group, Version: v.Version, Resource: r.Resource}),
		}
		if r.ResponseKind != nil {
			main.Kind = r.ResponseKind.Kind
			main.Group, main.Version = differing(r.ResponseKind, group, v.Version)
		}
		out.APIResources = append(out.APIResources, main)
		for _, sub := range r.Subresources {
			x := metav1.APIResource{Name: r.Resource + "/" + sub.Subresource, Namespaced: namespaced, Verbs: metav1.Verbs(sub.Verbs)}
			if sub.ResponseKind != nil {
				x.Kind = sub.ResponseKind.Kind
				x.Group, x.Version = differing(sub.ResponseKind, group, v.Version)
			}
			out.APIResources = append(out.APIResources, x)
		}
	}
	slices.SortStableFunc(out.APIResources, func(a, b metav1.APIResource) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func differing(kind *metav1.GroupVersionKind, group, version string) (string, string) {
	if kind.Group == group && kind.Version == version || kind.Version == "" {
		return "", ""
	}
	return kind.Group, kind.Version
}
