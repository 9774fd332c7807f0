// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package endpoints

import (
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"

	"kogge.dev/kogge/internal/equal"
)

// Group is a set of endpoints that share address type and ports, and so may share slices.
type Group struct {
	AddressType discoveryv1.AddressType
	Ports       []discoveryv1.EndpointPort
	Endpoints   []discoveryv1.Endpoint
}

// Plan is what must be written so that the slices hold what is wanted. Update and Create slices are complete but for
// metadata that the caller owns.
type Plan struct {
	Create, Update, Delete []*discoveryv1.EndpointSlice
}

// PlanSlices compares existing slices of one Service with the wanted groups. An endpoint stays in the slice where it is;
// freed room is filled before a slice is added, so that one pod's change writes one slice.
func PlanSlices(existing []*discoveryv1.EndpointSlice, groups []Group) Plan {
	var plan Plan
	byKey := map[string][]*discoveryv1.EndpointSlice{}
	for _, s := range existing {
		key := groupKey(s.AddressType, s.Ports)
		byKey[key] = append(byKey[key], s)
	}
	for _, g := range groups {
		key := groupKey(g.AddressType, g.Ports)
		plan.group(byKey[key], g)
		delete(byKey, key)
	}
	for _, left := range byKey {
		plan.Delete = append(plan.Delete, left...)
	}
	slices.SortFunc(plan.Delete, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	return plan
}

func groupKey(kind discoveryv1.AddressType, ports []discoveryv1.EndpointPort) string {
	return string(kind) + " " + PortsKey(ports)
}

func (p *Plan) group(existing []*discoveryv1.EndpointSlice, g Group) {
	wanted := make(map[string]discoveryv1.Endpoint, len(g.Endpoints))
	var order []string
	for _, e := range g.Endpoints {
		id := identity(&e)
		if _, twice := wanted[id]; !twice {
			order = append(order, id)
		}
		wanted[id] = e
	}
	slices.SortFunc(existing, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	next, changed := keep(existing, wanted)
	var rest []discoveryv1.Endpoint
	for _, id := range order {
		if e, ok := wanted[id]; ok {
			rest = append(rest, e)
		}
	}
	// Slices that change anyway take new endpoints first, then, if everything left fits into one other slice, that one.
	for i := range existing {
		if changed[i] && len(next[i]) > 0 {
			rest = fill(&next[i], rest)
		}
	}
	for i := range existing {
		if len(rest) > 0 && len(next[i])+len(rest) <= MaxPerSlice && (len(next[i]) > 0 || i == len(existing)-1) {
			rest, changed[i] = fill(&next[i], rest), true
		}
	}
	p.apply(existing, next, changed, len(rest) > 0)
	for len(rest) > 0 || (len(existing) == 0 && len(g.Endpoints) == 0) {
		var endpoints []discoveryv1.Endpoint
		rest = fill(&endpoints, rest)
		p.Create = append(p.Create, &discoveryv1.EndpointSlice{AddressType: g.AddressType, Ports: g.Ports, Endpoints: endpoints})
		if len(rest) == 0 {
			return
		}
	}
}

// keep leaves every endpoint that is still wanted in its slice and takes it out of wanted. It returns what each slice will
// hold and which slices change by that.
func keep(existing []*discoveryv1.EndpointSlice, wanted map[string]discoveryv1.Endpoint) (next [][]discoveryv1.Endpoint, changed []bool) {
	next, changed = make([][]discoveryv1.Endpoint, len(existing)), make([]bool, len(existing))
	for i, s := range existing {
		for j := range s.Endpoints {
			id := identity(&s.Endpoints[j])
			e, ok := wanted[id]
			if !ok {
				changed[i] = true
				continue
			}
			delete(wanted, id)
			changed[i] = changed[i] || !equal.Semantic(e, s.Endpoints[j])
			next[i] = append(next[i], e)
		}
	}
	return next, changed
}

// apply sorts a group's slices into updates and deletions; the last empty slice stays as the placeholder of a Service
// without endpoints.
func (p *Plan) apply(existing []*discoveryv1.EndpointSlice, next [][]discoveryv1.Endpoint, changed []bool, more bool) {
	filled := more
	for i := range next {
		filled = filled || len(next[i]) > 0
	}
	for i, s := range existing {
		switch {
		case len(next[i]) == 0 && (filled || i > 0):
			p.Delete = append(p.Delete, s)
		case changed[i]:
			update := s.DeepCopy()
			update.Endpoints = next[i]
			p.Update = append(p.Update, update)
		}
	}
}

func fill(into *[]discoveryv1.Endpoint, rest []discoveryv1.Endpoint) []discoveryv1.Endpoint {
	n := min(MaxPerSlice-len(*into), len(rest))
	*into = append(*into, rest[:n]...)
	return rest[n:]
}

// identity tells which endpoints are the same one: the target and the address.
func identity(e *discoveryv1.Endpoint) string {
	id := strings.Join(e.Addresses, ",")
	if e.TargetRef != nil {
		id += " " + string(e.TargetRef.UID)
	}
	return id
}
