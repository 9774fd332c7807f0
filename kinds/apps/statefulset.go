// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/objectmeta"
	"kogge.dev/kogge/kinds/table"
)

func statefulSet() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:     "statefulsets",
		Singular:     "statefulset",
		ValidateName: objectmeta.Label,
		ShortNames:   []string{"sts"},
		Categories:   all(),
		Namespaced:   true,
		Storage:      kinds.Storage{Prefix: "statefulsets"},
		Subresources: []kinds.Subresource{
			kinds.Scalable(
				func(s *appsv1.StatefulSet) (int32, int32, string) {
					return deref(s.Spec.Replicas), s.Status.Replicas, selectorText(s.Spec.Selector)
				},
				func(s *appsv1.StatefulSet, replicas int32) { s.Spec.Replicas = &replicas },
			),
			kinds.Status(
				func(_ kinds.Request, new, old *appsv1.StatefulSet) { new.Spec = old.Spec },
				validateStatefulSetStatus,
			),
		},
	}, version.WithKind("StatefulSet"),
		func() *appsv1.StatefulSet { return &appsv1.StatefulSet{} },
		func() runtime.Object { return &appsv1.StatefulSetList{} },
		kinds.Strategy[*appsv1.StatefulSet]{
			Default: defaultStatefulSet,
			PrepareCreate: func(_ kinds.Request, s *appsv1.StatefulSet) {
				s.Status = appsv1.StatefulSetStatus{}
				s.Generation = 1
				dropMaxUnavailable(s, nil)
				dropTemplate(&s.Spec.Template, nil)
			},
			PrepareUpdate: func(_ kinds.Request, new, old *appsv1.StatefulSet) {
				new.Status = old.Status
				dropMaxUnavailable(new, old)
				dropTemplate(&new.Spec.Template, &old.Spec.Template)
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       validateStatefulSet,
			ValidateUpdate: validateStatefulSetUpdate,
			Warn:           warnStatefulSet,
			Columns:        statefulSetColumns(),
			Row:            statefulSetRow,
		})
}

// dropMaxUnavailable clears rollingUpdate.maxUnavailable, which v1.36 has switched off, unless old uses it already.
func dropMaxUnavailable(new, old *appsv1.StatefulSet) {
	if old != nil && old.Spec.UpdateStrategy.RollingUpdate != nil && old.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable != nil {
		return
	}
	if new.Spec.UpdateStrategy.RollingUpdate != nil {
		new.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = nil
	}
}

func statefulSetColumns() []metav1.TableColumnDefinition {
	return append([]metav1.TableColumnDefinition{
		table.Name(),
		table.Text("Ready", "Number of the pod with ready state"),
		table.Age(),
	}, table.Pods("")...)
}

func statefulSetRow(s *appsv1.StatefulSet, now time.Time) []any {
	names, images := table.Containers(s.Spec.Template.Spec.Containers)
	return []any{
		s.Name,
		fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, deref(s.Spec.Replicas)),
		table.Since(s.CreationTimestamp, now),
		names, images,
	}
}
