// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package graph is the pure core of the garbage collector: who owns whom, as far as it has been seen, and what each change
// makes worth looking at. It has no goroutines, clock or I/O.
//
//	owner ◀── ownerReferences ── dependent        A node that is only named as an owner is virtual until it is
//	  │                             ▲             observed; somebody must look whether it exists at all.
//	  └────────── dependents ───────┘
package graph

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Identity names one object.
type Identity struct {
	// Resource is empty for virtual nodes: only APIVersion and Kind of the reference are known.
	Resource         schema.GroupVersionResource
	APIVersion, Kind string
	Namespace, Name  string
	UID              types.UID
}

// Node is one object of the graph. Readers must not change it.
type Node struct {
	Identity
	Owners []metav1.OwnerReference
	// Virtual nodes were named by a reference and not seen themselves.
	Virtual bool
	// Gone virtual nodes do not exist any more, or never did: who names one from now on names nobody.
	Gone bool
	// Deleting is set from the deletionTimestamp on.
	Deleting bool
	// Foreground and Orphan tell which of the two finalizers a deleting object carries.
	Foreground, Orphan bool
	// dependents is nil before there are any: most objects own nothing.
	dependents map[types.UID]*Node
}

// Dependents returns the nodes that name this one as an owner.
func (n *Node) Dependents() []*Node {
	out := make([]*Node, 0, len(n.dependents))
	for _, d := range n.dependents {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *Node) int { return compare(a.UID, b.UID) })
	return out
}

// Blocking returns the dependents whose reference blocks the owner's foreground deletion.
func (n *Node) Blocking() []*Node {
	return slices.DeleteFunc(n.Dependents(), func(d *Node) bool {
		return !slices.ContainsFunc(d.Owners, func(r metav1.OwnerReference) bool {
			return r.UID == n.UID && r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion
		})
	})
}

func compare(a, b types.UID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Work is what a change makes worth looking at, by UID.
type Work struct {
	// Examine: may have to be deleted, or is waiting for dependents.
	Examine []types.UID
	// Release: deleted with its dependents to be orphaned.
	Release []types.UID
}

// Graph of everything seen. It is not safe for concurrent use. The zero value is empty.
type Graph struct {
	nodes map[types.UID]*Node
}

// Node returns a node, or nil.
func (g *Graph) Node(uid types.UID) *Node { return g.nodes[uid] }

// Of returns the nodes of a resource that were observed, whatever their version, in no order.
func (g *Graph) Of(gr schema.GroupResource) []Identity {
	var out []Identity
	for _, n := range g.nodes {
		if !n.Virtual && n.Resource.GroupResource() == gr {
			out = append(out, n.Identity)
		}
	}
	return out
}

// Len returns how many nodes there are, virtual ones included.
func (g *Graph) Len() int { return len(g.nodes) }

// Observe takes an object's present state in.
func (g *Graph) Observe(id Identity, obj metav1.Object) Work {
	if g.nodes == nil {
		g.nodes = map[types.UID]*Node{}
	}
	var work Work
	n := g.nodes[id.UID]
	if n == nil {
		n = &Node{}
		g.nodes[id.UID] = n
	}
	if n.Virtual && (n.Namespace != id.Namespace || n.Kind != id.Kind || n.Name != id.Name) {
		// Dependents that named it by other coordinates name nobody that exists.
		for _, d := range n.Dependents() {
			work.Examine = append(work.Examine, d.UID)
		}
	}
	wasDeleting, wasForeground := n.Deleting, n.Foreground
	n.Identity, n.Virtual, n.Gone = id, false, false
	n.Deleting = obj.GetDeletionTimestamp() != nil
	n.Foreground = n.Deleting && slices.Contains(obj.GetFinalizers(), metav1.FinalizerDeleteDependents)
	n.Orphan = n.Deleting && slices.Contains(obj.GetFinalizers(), metav1.FinalizerOrphanDependents)
	g.relink(n, obj.GetOwnerReferences(), &work)
	switch {
	case n.Orphan && !wasDeleting:
		work.Release = append(work.Release, n.UID)
	case n.Foreground && (!wasDeleting || !wasForeground):
		for _, d := range n.Dependents() {
			work.Examine = append(work.Examine, d.UID)
		}
		work.Examine = append(work.Examine, n.UID)
	}
	return work
}

// relink replaces a node's owners.
func (g *Graph) relink(n *Node, owners []metav1.OwnerReference, work *Work) {
	before := n.Owners
	n.Owners = slices.Clone(owners)
	for _, ref := range before {
		if slices.ContainsFunc(owners, func(r metav1.OwnerReference) bool { return r.UID == ref.UID }) {
			continue
		}
		if owner := g.nodes[ref.UID]; owner != nil {
			delete(owner.dependents, n.UID)
			g.wakeOwner(owner, work)
		}
	}
	for _, ref := range owners {
		owner := g.nodes[ref.UID]
		if owner == nil {
			owner = &Node{
				Identity: Identity{APIVersion: ref.APIVersion, Kind: ref.Kind, Namespace: n.Namespace, Name: ref.Name, UID: ref.UID},
				Virtual:  true,
			}
			g.nodes[ref.UID] = owner
			work.Examine = append(work.Examine, ref.UID)
		}
		known := slices.ContainsFunc(before, func(r metav1.OwnerReference) bool { return r.UID == ref.UID })
		if owner.dependents == nil {
			owner.dependents = map[types.UID]*Node{}
		}
		owner.dependents[n.UID] = n
		if !known && (owner.Foreground || owner.Gone || (!owner.Virtual && owner.Namespace != "" && owner.Namespace != n.Namespace)) {
			work.Examine = append(work.Examine, n.UID)
		}
		if known && owner.Foreground {
			g.wakeOwner(owner, work) // blockOwnerDeletion may have been withdrawn
		}
	}
}

func (g *Graph) wakeOwner(owner *Node, work *Work) {
	if owner.Foreground {
		work.Examine = append(work.Examine, owner.UID)
	}
	if owner.Virtual && len(owner.dependents) == 0 {
		delete(g.nodes, owner.UID)
	}
}

// Remove takes an object out: its dependents have lost an owner, its owners a dependent.
func (g *Graph) Remove(uid types.UID) Work {
	var work Work
	n := g.nodes[uid]
	if n == nil {
		return work
	}
	for _, ref := range n.Owners {
		if owner := g.nodes[ref.UID]; owner != nil {
			delete(owner.dependents, uid)
			g.wakeOwner(owner, &work)
		}
	}
	for _, d := range n.Dependents() {
		work.Examine = append(work.Examine, d.UID)
	}
	if len(n.dependents) == 0 {
		delete(g.nodes, uid)
		return work
	}
	// Dependents still name it: it stays as a virtual node.
	n.Virtual, n.Gone, n.Owners, n.Deleting, n.Foreground, n.Orphan = true, true, nil, false, false, false
	return work
}
