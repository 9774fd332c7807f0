// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package node describes the kinds of the node.k8s.io API group.
package node

import (
	"time"

	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/podspec"
	"kogge.dev/kogge/kinds/table"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind { return []*kinds.Kind{runtimeClass()} }

func runtimeClass() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:              "runtimeclasses",
		Singular:              "runtimeclass",
		FreeFinalizers:        true,
		NoGeneration:          true,
		CreateOnUpdate:        true,
		ConditionalUpdateOnly: true,
		Storage:               kinds.Storage{Prefix: "runtimeclasses"},
	}, nodev1.SchemeGroupVersion.WithKind("RuntimeClass"),
		func() *nodev1.RuntimeClass { return &nodev1.RuntimeClass{} },
		func() runtime.Object { return &nodev1.RuntimeClassList{} },
		kinds.Strategy[*nodev1.RuntimeClass]{
			Validate:       validate,
			ValidateUpdate: validateUpdate,
			Warn: func(_ kinds.Request, new, _ *nodev1.RuntimeClass) []string {
				if new.Scheduling == nil {
					return nil
				}
				return podspec.NodeSelectorWarnings(new.Scheduling.NodeSelector, field.NewPath("scheduling", "nodeSelector"))
			},
			Columns: []metav1.TableColumnDefinition{
				table.Name(), table.Text("Handler", ""), table.Age(),
			},
			Row: func(c *nodev1.RuntimeClass, now time.Time) []any {
				return []any{c.Name, c.Handler, table.Since(c.CreationTimestamp, now)}
			},
		})
}
