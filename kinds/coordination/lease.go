// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package coordination describes the kinds of the coordination.k8s.io API group.
package coordination

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind { return []*kinds.Kind{leaseCandidate(), lease()} }

func lease() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:              "leases",
		Singular:              "lease",
		FreeFinalizers:        true,
		Namespaced:            true,
		NoGeneration:          true,
		CreateOnUpdate:        true,
		ConditionalUpdateOnly: true,
		Storage:               kinds.Storage{Prefix: "leases"},
	}, coordinationv1.SchemeGroupVersion.WithKind("Lease"),
		func() *coordinationv1.Lease { return &coordinationv1.Lease{} },
		func() runtime.Object { return &coordinationv1.LeaseList{} },
		kinds.Strategy[*coordinationv1.Lease]{
			PrepareCreate:  func(_ kinds.Request, l *coordinationv1.Lease) { dropCoordinated(l, nil) },
			PrepareUpdate:  func(_ kinds.Request, new, old *coordinationv1.Lease) { dropCoordinated(new, old) },
			Validate:       validateLease,
			ValidateUpdate: validateLeaseUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(), table.Text("Holder", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"]), table.Age(),
			},
			Row: func(l *coordinationv1.Lease, now time.Time) []any {
				return []any{l.Name, table.Or(l.Spec.HolderIdentity, ""), table.Since(l.CreationTimestamp, now)}
			},
		})
}

// dropCoordinated clears the fields of coordinated leader election, which v1.36 has switched off, unless old uses them already.
func dropCoordinated(new, old *coordinationv1.Lease) {
	if old == nil || old.Spec.Strategy == nil {
		new.Spec.Strategy = nil
	}
	if old == nil || old.Spec.PreferredHolder == nil {
		new.Spec.PreferredHolder = nil
	}
}
