// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package autoscaling describes the kinds of the autoscaling API group.
package autoscaling

import (
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind { return []*kinds.Kind{horizontalPodAutoscaler()} }

// horizontalPodAutoscaler is served as v2 and v1 and stored as v2, which can say all that v1 can.
func horizontalPodAutoscaler() *kinds.Kind {
	const name = "HorizontalPodAutoscaler"
	stored := func() kinds.Object { return &autoscalingv2.HorizontalPodAutoscaler{} }
	storedList := func() runtime.Object { return &autoscalingv2.HorizontalPodAutoscalerList{} }
	return kinds.Define(kinds.Kind{
		Resource:        "horizontalpodautoscalers",
		Singular:        "horizontalpodautoscaler",
		ShortNames:      []string{"hpa"},
		Categories:      []string{"all"},
		Namespaced:      true,
		NoGeneration:    true,
		FormAnnotations: formAnnotations,
		Storage:         kinds.Storage{Prefix: "horizontalpodautoscalers"},
		Served: []kinds.Served{
			{GroupVersionKind: autoscalingv2.SchemeGroupVersion.WithKind(name), New: stored, NewList: storedList},
			{
				GroupVersionKind: autoscalingv1.SchemeGroupVersion.WithKind(name),
				New:              func() kinds.Object { return &autoscalingv1.HorizontalPodAutoscaler{} },
				NewList:          func() runtime.Object { return &autoscalingv1.HorizontalPodAutoscalerList{} },
				FromStorage: func(obj kinds.Object) (kinds.Object, error) {
					return toV1(obj.(*autoscalingv2.HorizontalPodAutoscaler))
				},
				ToStorage: func(obj kinds.Object) (kinds.Object, error) {
					return fromV1(obj.(*autoscalingv1.HorizontalPodAutoscaler)), nil
				},
				Default: func(obj kinds.Object) {
					h := obj.(*autoscalingv1.HorizontalPodAutoscaler)
					h.Spec.MinReplicas = new(ptr.Deref(h.Spec.MinReplicas, defaultMinReplicas))
				},
			},
		},
		Subresources: []kinds.Subresource{
			kinds.Status(func(_ kinds.Request, new, old *autoscalingv2.HorizontalPodAutoscaler) { new.Spec = old.Spec }, validateStatus),
		},
	}, autoscalingv2.SchemeGroupVersion.WithKind(name),
		func() *autoscalingv2.HorizontalPodAutoscaler { return &autoscalingv2.HorizontalPodAutoscaler{} },
		storedList,
		kinds.Strategy[*autoscalingv2.HorizontalPodAutoscaler]{
			Default: defaultAutoscaler,
			PrepareCreate: func(_ kinds.Request, h *autoscalingv2.HorizontalPodAutoscaler) {
				h.Status = autoscalingv2.HorizontalPodAutoscalerStatus{}
			},
			PrepareUpdate:  func(_ kinds.Request, new, old *autoscalingv2.HorizontalPodAutoscaler) { new.Status = old.Status },
			Validate:       validate,
			ValidateUpdate: validateUpdate,
			Columns:        columns(),
			Row:            row,
		})
}

func columns() []metav1.TableColumnDefinition {
	spec := autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		table.Name(),
		table.Text("Reference", spec["scaleTargetRef"]),
		table.Text("Targets", spec["metrics"]),
		table.Text("MinPods", spec["minReplicas"]),
		table.Text("MaxPods", spec["maxReplicas"]),
		table.Text("Replicas", autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()["currentReplicas"]),
		table.Age(),
	}
}

func row(h *autoscalingv2.HorizontalPodAutoscaler, now time.Time) []any {
	return []any{
		h.Name, h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name, targets(h), minText(h.Spec.MinReplicas),
		int64(h.Spec.MaxReplicas), int64(h.Status.CurrentReplicas), table.Since(h.CreationTimestamp, now),
	}
}
