// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

func endpoints() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "endpoints",
		Singular:       "endpoints",
		ShortNames:     []string{"ep"},
		Namespaced:     true,
		NoGeneration:   true,
		CreateOnUpdate: true,
		Deprecated:     "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
		Storage:        kinds.Storage{Prefix: "services/endpoints"},
	}, version.WithKind("Endpoints"),
		func() *corev1.Endpoints { return &corev1.Endpoints{} },
		func() runtime.Object { return &corev1.EndpointsList{} },
		kinds.Strategy[*corev1.Endpoints]{
			Default:        defaultEndpoints,
			Validate:       validateEndpoints,
			ValidateUpdate: validateEndpointsUpdate,
			Warn:           warnEndpoints,
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("Endpoints", corev1.Endpoints{}.SwaggerDoc()["subsets"]),
				table.Age(),
			},
			Row: func(e *corev1.Endpoints, now time.Time) []any {
				return []any{e.Name, endpointsText(e), table.Since(e.CreationTimestamp, now)}
			},
		})
}

func defaultEndpoints(e *corev1.Endpoints) {
	for i := range e.Subsets {
		for j := range e.Subsets[i].Ports {
			if e.Subsets[i].Ports[j].Protocol == "" {
				e.Subsets[i].Ports[j].Protocol = corev1.ProtocolTCP
			}
		}
	}
}

// shownEndpoints is how many endpoints a cell names before it counts the rest.
const shownEndpoints = 3

func endpointsText(e *corev1.Endpoints) string {
	if len(e.Subsets) == 0 {
		return table.None
	}
	var list []string
	for i := range e.Subsets {
		subset := &e.Subsets[i]
		for _, address := range subset.Addresses {
			if len(subset.Ports) == 0 {
				list = append(list, address.IP)
			}
		}
		for _, port := range subset.Ports {
			for _, address := range subset.Addresses {
				list = append(list, net.JoinHostPort(address.IP, strconv.Itoa(int(port.Port))))
			}
		}
	}
	if len(list) > shownEndpoints {
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:shownEndpoints], ","), len(list)-shownEndpoints)
	}
	return strings.Join(list, ",")
}
