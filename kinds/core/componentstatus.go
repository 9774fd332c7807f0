// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

// componentStatus is made on demand by the API server, which asks the components for their health.
func componentStatus() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:     "componentstatuses",
		Singular:     "componentstatus",
		ShortNames:   []string{"cs"},
		NoGeneration: true,
		Deprecated:   "v1 ComponentStatus is deprecated in v1.19+",
		Verbs:        []string{"get", "list"},
	}, version.WithKind("ComponentStatus"),
		func() *corev1.ComponentStatus { return &corev1.ComponentStatus{} },
		func() runtime.Object { return &corev1.ComponentStatusList{} },
		kinds.Strategy[*corev1.ComponentStatus]{
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("Status", "Status of the component conditions"),
				table.Text("Message", "Message of the component conditions"),
				table.Text("Error", "Error of the component conditions"),
			},
			Row: componentStatusRow,
		})
}

func componentStatusRow(cs *corev1.ComponentStatus, _ time.Time) []any {
	for _, c := range cs.Conditions {
		if c.Type != corev1.ComponentHealthy {
			continue
		}
		status := "Unhealthy"
		if c.Status == corev1.ConditionTrue {
			status = "Healthy"
		}
		return []any{cs.Name, status, c.Message, c.Error}
	}
	return []any{cs.Name, "Unknown", "", ""}
}
