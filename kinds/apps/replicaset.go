// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

func replicaSet() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:   "replicasets",
		Singular:   "replicaset",
		ShortNames: []string{"rs"},
		Categories: all(),
		Namespaced: true,
		Storage:    kinds.Storage{Prefix: "replicasets"},
		Subresources: []kinds.Subresource{
			kinds.Scalable(
				func(rs *appsv1.ReplicaSet) (int32, int32, string) {
					return deref(rs.Spec.Replicas), rs.Status.Replicas, selectorText(rs.Spec.Selector)
				},
				func(rs *appsv1.ReplicaSet, replicas int32) { rs.Spec.Replicas = &replicas },
			),
			kinds.Status(
				func(_ kinds.Request, new, old *appsv1.ReplicaSet) { new.Spec = old.Spec },
				validateReplicaSetStatus,
			),
		},
	}, version.WithKind("ReplicaSet"),
		func() *appsv1.ReplicaSet { return &appsv1.ReplicaSet{} },
		func() runtime.Object { return &appsv1.ReplicaSetList{} },
		kinds.Strategy[*appsv1.ReplicaSet]{
			Default: defaultReplicaSet,
			PrepareCreate: func(_ kinds.Request, rs *appsv1.ReplicaSet) {
				rs.Status = appsv1.ReplicaSetStatus{}
				rs.Generation = 1
				dropTemplate(&rs.Spec.Template, nil)
			},
			PrepareUpdate: func(_ kinds.Request, new, old *appsv1.ReplicaSet) {
				new.Status = old.Status
				dropTemplate(&new.Spec.Template, &old.Spec.Template)
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       validateReplicaSet,
			ValidateUpdate: validateReplicaSetUpdate,
			Warn:           warnReplicaSet,
			Columns:        replicaSetColumns(),
			Row:            replicaSetRow,
		})
}

func replicaSetColumns() []metav1.TableColumnDefinition {
	spec, status := appsv1.ReplicaSetSpec{}.SwaggerDoc(), appsv1.ReplicaSetStatus{}.SwaggerDoc()
	return append([]metav1.TableColumnDefinition{
		table.Name(),
		table.Number("Desired", spec["replicas"]),
		table.Number("Current", status["replicas"]),
		table.Number("Ready", status["readyReplicas"]),
		table.Age(),
	}, table.Pods(spec["selector"])...)
}

func replicaSetRow(rs *appsv1.ReplicaSet, now time.Time) []any {
	names, images := table.Containers(rs.Spec.Template.Spec.Containers)
	return []any{
		rs.Name,
		int64(deref(rs.Spec.Replicas)),
		int64(rs.Status.Replicas),
		int64(rs.Status.ReadyReplicas),
		table.Since(rs.CreationTimestamp, now),
		names, images, metav1.FormatLabelSelector(rs.Spec.Selector),
	}
}
