// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/podspec"
	"kogge.dev/kogge/kinds/table"
)

func limitRange() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "limitranges",
		Singular:       "limitrange",
		ShortNames:     []string{"limits"},
		Namespaced:     true,
		NoGeneration:   true,
		CreateOnUpdate: true,
		Storage:        kinds.Storage{Prefix: "limitranges"},
	}, version.WithKind("LimitRange"),
		func() *corev1.LimitRange { return &corev1.LimitRange{} },
		func() runtime.Object { return &corev1.LimitRangeList{} },
		kinds.Strategy[*corev1.LimitRange]{
			Default: defaultLimitRange,
			PrepareCreate: func(_ kinds.Request, r *corev1.LimitRange) {
				if r.Name == "" && r.GenerateName == "" {
					r.Name = string(uuid.NewUUID())
				}
			},
			Validate:       validateLimitRange,
			ValidateUpdate: validateLimitRangeUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]},
			},
			Row: func(r *corev1.LimitRange, _ time.Time) []any {
				return []any{r.Name, r.CreationTimestamp.UTC().Format(time.RFC3339)}
			},
		})
}

// defaultLimitRange derives the defaults of containers: a limit from the maximum, a request from that limit, else from
// the minimum.
func defaultLimitRange(r *corev1.LimitRange) {
	for i := range r.Spec.Limits {
		item := &r.Spec.Limits[i]
		if item.Type == corev1.LimitTypeContainer {
			if item.Default == nil {
				item.Default = corev1.ResourceList{}
			}
			if item.DefaultRequest == nil {
				item.DefaultRequest = corev1.ResourceList{}
			}
			addMissing(item.Default, item.Max)
			addMissing(item.DefaultRequest, item.Default)
			addMissing(item.DefaultRequest, item.Min)
		}
		for _, list := range []corev1.ResourceList{item.Max, item.Min, item.Default, item.DefaultRequest, item.MaxLimitRequestRatio} {
			podspec.RoundUp(list)
		}
	}
}

func addMissing(list, from corev1.ResourceList) {
	for name, quantity := range from {
		if _, ok := list[name]; !ok {
			list[name] = quantity.DeepCopy()
		}
	}
}
