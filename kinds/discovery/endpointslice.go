// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package discovery describes the kinds of the discovery.k8s.io API group.
package discovery

import (
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind { return []*kinds.Kind{endpointSlice()} }

func endpointSlice() *kinds.Kind {
	doc := discoveryv1.EndpointSlice{}.SwaggerDoc()
	return kinds.Define(kinds.Kind{
		Resource:   "endpointslices",
		Singular:   "endpointslice",
		Namespaced: true,
		Storage:    kinds.Storage{Prefix: "endpointslices"},
	}, discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"),
		func() *discoveryv1.EndpointSlice { return &discoveryv1.EndpointSlice{} },
		func() runtime.Object { return &discoveryv1.EndpointSliceList{} },
		kinds.Strategy[*discoveryv1.EndpointSlice]{
			Default: func(s *discoveryv1.EndpointSlice) {
				for i := range s.Ports {
					p := &s.Ports[i]
					p.Name = new(ptr.Deref(p.Name, ""))
					p.Protocol = new(ptr.Deref(p.Protocol, corev1.ProtocolTCP))
				}
			},
			PrepareCreate: func(_ kinds.Request, s *discoveryv1.EndpointSlice) {
				s.Generation = 1
				dropTopology(s, nil)
			},
			PrepareUpdate:  prepareEndpointSlice,
			Validate:       validateEndpointSlice,
			ValidateUpdate: validateEndpointSliceUpdate,
			Warn:           warnEndpointSlice,
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("AddressType", doc["addressType"]),
				table.Text("Ports", doc["ports"]),
				table.Text("Endpoints", doc["endpoints"]),
				table.Age(),
			},
			Row: endpointSliceRow,
		})
}

// prepareEndpointSlice raises the generation for any change but that of metadata other than labels.
func prepareEndpointSlice(_ kinds.Request, new, old *discoveryv1.EndpointSlice) {
	a, b := *new, *old
	a.ObjectMeta = metav1.ObjectMeta{Labels: new.Labels}
	b.ObjectMeta = metav1.ObjectMeta{Labels: old.Labels}
	kinds.RaiseGeneration(new, old, a, b)
	dropTopology(new, old)
}

// dropTopology clears deprecatedTopology, which v1 only shows where an older version stored it. A node name that such an
// endpoint had there moves to its field.
func dropTopology(new, old *discoveryv1.EndpointSlice) {
	known := map[string]bool{}
	if old != nil {
		if equal.Semantic(old.Endpoints, new.Endpoints) {
			return
		}
		for i := range old.Endpoints {
			if name := old.Endpoints[i].DeprecatedTopology[corev1.LabelHostname]; name != "" {
				known[name] = true
			}
		}
	}
	for i := range new.Endpoints {
		e := &new.Endpoints[i]
		if name := e.DeprecatedTopology[corev1.LabelHostname]; e.NodeName == nil && known[name] && len(nodeName(name)) == 0 {
			e.NodeName = &name
		}
		e.DeprecatedTopology = nil
	}
}

func endpointSliceRow(s *discoveryv1.EndpointSlice, now time.Time) []any {
	var ports, addresses []string
	for _, p := range s.Ports {
		switch {
		case p.Port != nil:
			ports = append(ports, strconv.Itoa(int(*p.Port)))
		case p.Name != nil:
			ports = append(ports, *p.Name)
		default:
			ports = append(ports, "*")
		}
	}
	for i := range s.Endpoints {
		addresses = append(addresses, s.Endpoints[i].Addresses...)
	}
	return []any{s.Name, string(s.AddressType), table.List(ports), table.List(addresses), table.Since(s.CreationTimestamp, now)}
}
