// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package policy describes the kinds of the policy API group.
package policy

import (
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/objectmeta"
	"kogge.dev/kogge/kinds/table"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind { return []*kinds.Kind{podDisruptionBudget()} }

func podDisruptionBudget() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:              "poddisruptionbudgets",
		Singular:              "poddisruptionbudget",
		FreeFinalizers:        true,
		ValidateName:          objectmeta.PathSegment, // upstream has no rule of its own
		ShortNames:            []string{"pdb"},
		Namespaced:            true,
		ConditionalUpdateOnly: true,
		Storage:               kinds.Storage{Prefix: "poddisruptionbudgets"},
		Subresources: []kinds.Subresource{
			kinds.Status(func(_ kinds.Request, new, old *policyv1.PodDisruptionBudget) { new.Spec = old.Spec }, validateStatus),
		},
	}, policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"),
		func() *policyv1.PodDisruptionBudget { return &policyv1.PodDisruptionBudget{} },
		func() runtime.Object { return &policyv1.PodDisruptionBudgetList{} },
		kinds.Strategy[*policyv1.PodDisruptionBudget]{
			PrepareCreate: func(_ kinds.Request, b *policyv1.PodDisruptionBudget) {
				b.Status = policyv1.PodDisruptionBudgetStatus{}
				b.Generation = 1
			},
			PrepareUpdate: func(_ kinds.Request, new, old *policyv1.PodDisruptionBudget) {
				new.Status = old.Status
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       validate,
			ValidateUpdate: validateUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("Min Available", "The minimum number of pods that must be available."),
				table.Text("Max Unavailable", "The maximum number of pods that may be unavailable."),
				table.Number("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
				table.Age(),
			},
			Row: func(b *policyv1.PodDisruptionBudget, now time.Time) []any {
				return []any{
					b.Name, orNA(b.Spec.MinAvailable), orNA(b.Spec.MaxUnavailable),
					int64(b.Status.DisruptionsAllowed), table.Since(b.CreationTimestamp, now),
				}
			},
		})
}

func orNA(value *intstr.IntOrString) string {
	if value == nil {
		return "N/A"
	}
	return value.String()
}
