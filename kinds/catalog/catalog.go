// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package catalog lists all built-in kinds and finds them by resource, by kind and by Go type. It is the one list of what
// the server serves; discovery, storage, authorization and the command line read it.
package catalog

import (
	"cmp"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/admissionregistration"
	"kogge.dev/kogge/kinds/apiextensions"
	"kogge.dev/kogge/kinds/apiregistration"
	"kogge.dev/kogge/kinds/apiserverinternal"
	"kogge.dev/kogge/kinds/apps"
	"kogge.dev/kogge/kinds/authentication"
	"kogge.dev/kogge/kinds/authorization"
	"kogge.dev/kogge/kinds/autoscaling"
	"kogge.dev/kogge/kinds/batch"
	"kogge.dev/kogge/kinds/certificates"
	"kogge.dev/kogge/kinds/coordination"
	"kogge.dev/kogge/kinds/core"
	"kogge.dev/kogge/kinds/discovery"
	"kogge.dev/kogge/kinds/flowcontrol"
	"kogge.dev/kogge/kinds/networking"
	"kogge.dev/kogge/kinds/node"
	"kogge.dev/kogge/kinds/policy"
	"kogge.dev/kogge/kinds/rbac"
	"kogge.dev/kogge/kinds/resource"
	"kogge.dev/kogge/kinds/scheduling"
	"kogge.dev/kogge/kinds/storage"
)

// Catalog is immutable once made and safe for concurrent use. The descriptors in it are shared: nobody changes them.
type Catalog struct {
	all        []*kinds.Kind
	groups     []Group
	byResource map[schema.GroupVersionResource]entry
	byKind     map[schema.GroupVersionKind]entry
	byType     map[reflect.Type]entry
}

// entry is a kind under one of the versions that it is served in.
type entry struct {
	kind   *kinds.Kind
	served *kinds.Served
}

// Group is an API group as discovery shows it.
type Group struct {
	// Name is empty for the core group.
	Name string
	// Priority orders groups; the highest comes first. It is the groupPriorityMinimum of the group's APIServices.
	Priority int32
	// Versions, the preferred one first.
	Versions []Version
}

// Version is one version of a group.
type Version struct {
	schema.GroupVersion
	// Priority orders the versions of one group; the highest comes first.
	Priority int32
	// Kinds served in this version, in the order of their resource names.
	Kinds []*kinds.Kind
}

// New makes the catalog of what is served by default. It panics when two kinds claim the same resource, kind or type, which a test would
// catch first.
func New() *Catalog { return assemble(Known()) }

// Known makes the descriptors of all kinds anew, whether they are served or not.
func Known() []*kinds.Kind {
	var all []*kinds.Kind
	for _, group := range [][]*kinds.Kind{
		core.Kinds(),
		apiregistration.Kinds(),
		apiserverinternal.Kinds(),
		apps.Kinds(),
		authentication.Kinds(),
		authorization.Kinds(),
		autoscaling.Kinds(),
		batch.Kinds(),
		certificates.Kinds(),
		networking.Kinds(),
		policy.Kinds(),
		rbac.Kinds(),
		storage.Kinds(),
		admissionregistration.Kinds(),
		apiextensions.Kinds(),
		scheduling.Kinds(),
		coordination.Kinds(),
		node.Kinds(),
		discovery.Kinds(),
		resource.Kinds(),
		flowcontrol.Kinds(),
	} {
		all = append(all, group...)
	}
	return all
}

func assemble(all []*kinds.Kind) *Catalog {
	c := &Catalog{
		all:        slices.DeleteFunc(all, func(k *kinds.Kind) bool { return len(k.Served) == 0 }),
		byResource: map[schema.GroupVersionResource]entry{},
		byKind:     map[schema.GroupVersionKind]entry{},
		byType:     map[reflect.Type]entry{},
	}
	versions := map[schema.GroupVersion][]*kinds.Kind{}
	for _, k := range c.all {
		for i := range k.Served {
			served := &k.Served[i]
			gv := served.GroupVersion()
			versions[gv] = append(versions[gv], k)
			at := entry{k, served}
			put(c.byResource, gv.WithResource(k.Resource), at)
			put(c.byKind, served.GroupVersionKind, at)
			put(c.byType, reflect.TypeOf(served.New()), at)
		}
	}
	c.groups = groupsOf(versions)
	return c
}

func put[K comparable](m map[K]entry, key K, value entry) {
	if _, taken := m[key]; taken {
		panic("catalog: listed twice: " + value.served.String())
	}
	m[key] = value
}

// groupsOf sorts versions into groups. Groups of equal priority are in the order of their names, as clients have always
// seen them.
func groupsOf(versions map[schema.GroupVersion][]*kinds.Kind) []Group {
	byName := map[string]*Group{}
	for gv, served := range versions {
		group, version := Priorities(gv)
		slices.SortFunc(served, func(a, b *kinds.Kind) int { return cmp.Compare(a.Resource, b.Resource) })
		g := byName[gv.Group]
		if g == nil {
			g = &Group{Name: gv.Group, Priority: group}
			byName[gv.Group] = g
		}
		g.Versions = append(g.Versions, Version{GroupVersion: gv, Priority: version, Kinds: served})
	}
	out := make([]Group, 0, len(byName))
	for _, g := range byName {
		slices.SortFunc(g.Versions, func(a, b Version) int { return cmp.Compare(b.Priority, a.Priority) })
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// All lists every kind that is served once.
func (c *Catalog) All() []*kinds.Kind { return slices.Clone(c.all) }

// Groups lists all groups, the core group among them, in the order of aggregated discovery.
func (c *Catalog) Groups() []Group { return slices.Clone(c.groups) }

// Group finds a group by name.
func (c *Catalog) Group(name string) (Group, bool) {
	i := slices.IndexFunc(c.groups, func(g Group) bool { return g.Name == name })
	if i < 0 {
		return Group{}, false
	}
	return c.groups[i], true
}

// ByResource finds what a URL addresses; nil when it is not built in.
func (c *Catalog) ByResource(gvr schema.GroupVersionResource) (*kinds.Kind, *kinds.Served) {
	e := c.byResource[gvr]
	return e.kind, e.served
}

// ByKind finds what an object's apiVersion and kind name; nil when it is not built in.
func (c *Catalog) ByKind(gvk schema.GroupVersionKind) (*kinds.Kind, *kinds.Served) {
	e := c.byKind[gvk]
	return e.kind, e.served
}

// ByType finds the kind of a Go object; nil when it is not built in. Lists have none.
func (c *Catalog) ByType(obj kinds.Object) (*kinds.Kind, *kinds.Served) {
	return c.ByGoType(reflect.TypeOf(obj))
}

// ByGoType is ByType for a pointer type.
func (c *Catalog) ByGoType(t reflect.Type) (*kinds.Kind, *kinds.Served) {
	e := c.byType[t]
	return e.kind, e.served
}

// ByGroupResource finds a kind whatever its version; nil when it is not built in.
func (c *Catalog) ByGroupResource(gr schema.GroupResource) *kinds.Kind {
	for _, k := range c.all {
		for i := range k.Served {
			if k.Resource == gr.Resource && k.Served[i].Group == gr.Group {
				return k
			}
		}
	}
	return nil
}
