// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package autoscaling

import (
	"encoding/json"
	"fmt"
	"slices"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Annotations in which v1 carries what it has no fields for, as JSON.
const (
	metricsAnnotation    = "autoscaling.alpha.kubernetes.io/metrics"
	statusesAnnotation   = "autoscaling.alpha.kubernetes.io/current-metrics"
	conditionsAnnotation = "autoscaling.alpha.kubernetes.io/conditions"
	behaviorAnnotation   = "autoscaling.alpha.kubernetes.io/behavior"
	toleranceDown        = "autoscaling.alpha.kubernetes.io/scale-down-tolerance"
	toleranceUp          = "autoscaling.alpha.kubernetes.io/scale-up-tolerance"
)

// formAnnotations are all of them.
var formAnnotations = []string{metricsAnnotation, statusesAnnotation, conditionsAnnotation, behaviorAnnotation, toleranceDown, toleranceUp}

// behaviorText is the form of the behavior annotation, which spells its keys as Go does. Reading it ignores case.
type behaviorText struct {
	ScaleUp   *rulesText
	ScaleDown *rulesText
}

type rulesText struct {
	StabilizationWindowSeconds *int32
	SelectPolicy               *autoscalingv2.ScalingPolicySelect
	Policies                   []policyText
	Tolerance                  *resource.Quantity
}

type policyText struct {
	Type          autoscalingv2.HPAScalingPolicyType
	Value         int32
	PeriodSeconds int32
}

func rulesToText(r *autoscalingv2.HPAScalingRules) *rulesText {
	if r == nil {
		return nil
	}
	out := &rulesText{StabilizationWindowSeconds: r.StabilizationWindowSeconds, SelectPolicy: r.SelectPolicy, Tolerance: r.Tolerance}
	for _, p := range r.Policies {
		out.Policies = append(out.Policies, policyText{Type: p.Type, Value: p.Value, PeriodSeconds: p.PeriodSeconds})
	}
	return out
}

// stripped copies annotations without those of this file.
func stripped(in map[string]string) map[string]string {
	out := make(map[string]string, len(in))
	for key, value := range in {
		if !slices.Contains(formAnnotations, key) {
			out[key] = value
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// isCPU reports whether a metric is the one that v1 has a field for.
func isCPU(m *autoscalingv2.MetricSpec) bool {
	return m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil &&
		m.Resource.Name == corev1.ResourceCPU && m.Resource.Target.AverageUtilization != nil
}

// toV1 returns a fresh v1 object. Only an object that JSON can't write makes it fail.
func toV1(stored *autoscalingv2.HorizontalPodAutoscaler) (*autoscalingv1.HorizontalPodAutoscaler, error) {
	in := stored.DeepCopy()
	out := &autoscalingv1.HorizontalPodAutoscaler{
		TypeMeta:   in.TypeMeta,
		ObjectMeta: in.ObjectMeta,
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv1.CrossVersionObjectReference(in.Spec.ScaleTargetRef),
			MinReplicas:    in.Spec.MinReplicas,
			MaxReplicas:    in.Spec.MaxReplicas,
		},
		Status: autoscalingv1.HorizontalPodAutoscalerStatus{
			ObservedGeneration: in.Status.ObservedGeneration,
			LastScaleTime:      in.Status.LastScaleTime,
			CurrentReplicas:    in.Status.CurrentReplicas,
			DesiredReplicas:    in.Status.DesiredReplicas,
		},
	}
	out.SetGroupVersionKind(autoscalingv1.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"))
	out.Annotations = stripped(in.Annotations)
	others := []autoscalingv1.MetricSpec{}
	for i := range in.Spec.Metrics {
		m := &in.Spec.Metrics[i]
		if !isCPU(m) {
			others = append(others, metricToV1(m))
		} else if out.Spec.TargetCPUUtilizationPercentage == nil {
			out.Spec.TargetCPUUtilizationPercentage = m.Resource.Target.AverageUtilization
		}
	}
	statuses := []autoscalingv1.MetricStatus{}
	for i := range in.Status.CurrentMetrics {
		m := &in.Status.CurrentMetrics[i]
		statuses = append(statuses, statusToV1(m))
		if m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil && m.Resource.Name == corev1.ResourceCPU && m.Resource.Current.AverageUtilization != nil {
			out.Status.CurrentCPUUtilizationPercentage = m.Resource.Current.AverageUtilization
		}
	}
	conditions := []autoscalingv1.HorizontalPodAutoscalerCondition{}
	for _, c := range in.Status.Conditions {
		conditions = append(conditions, autoscalingv1.HorizontalPodAutoscalerCondition{
			Type: autoscalingv1.HorizontalPodAutoscalerConditionType(c.Type), Status: c.Status,
			LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	var behavior *behaviorText
	if b := in.Spec.Behavior; b != nil {
		behavior = &behaviorText{ScaleUp: rulesToText(b.ScaleUp), ScaleDown: rulesToText(b.ScaleDown)}
	}
	for _, part := range []struct {
		key   string
		set   bool
		value any
	}{
		{metricsAnnotation, len(others) > 0, others},
		{statusesAnnotation, len(statuses) > 0, statuses},
		{behaviorAnnotation, behavior != nil, behavior},
		{conditionsAnnotation, len(conditions) > 0, conditions},
	} {
		if !part.set {
			continue
		}
		text, err := json.Marshal(part.value)
		if err != nil {
			return nil, fmt.Errorf("encode annotation %s of autoscaler %s/%s: %w", part.key, in.Namespace, in.Name, err)
		}
		if out.Annotations == nil {
			out.Annotations = map[string]string{}
		}
		out.Annotations[part.key] = string(text)
	}
	return out, nil
}

// fromV1 returns a fresh object of the stored version. Annotations that can't be read are dropped, as they always were.
func fromV1(served *autoscalingv1.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscaler {
	in := served.DeepCopy()
	out := &autoscalingv2.HorizontalPodAutoscaler{
		TypeMeta:   in.TypeMeta,
		ObjectMeta: in.ObjectMeta,
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference(in.Spec.ScaleTargetRef),
			MinReplicas:    in.Spec.MinReplicas,
			MaxReplicas:    in.Spec.MaxReplicas,
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{
			ObservedGeneration: in.Status.ObservedGeneration,
			LastScaleTime:      in.Status.LastScaleTime,
			CurrentReplicas:    in.Status.CurrentReplicas,
			DesiredReplicas:    in.Status.DesiredReplicas,
		},
	}
	out.SetGroupVersionKind(autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"))
	out.Spec.Metrics = metricsFromV1(in)
	var behavior behaviorText
	if annotation(in, behaviorAnnotation, &behavior) && behavior != (behaviorText{}) {
		out.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{
			ScaleUp: rulesFromText(behavior.ScaleUp), ScaleDown: rulesFromText(behavior.ScaleDown),
		}
	}
	out.Status.CurrentMetrics = statusesFromV1(in)
	var conditions []autoscalingv1.HorizontalPodAutoscalerCondition
	if annotation(in, conditionsAnnotation, &conditions) {
		for _, c := range conditions {
			out.Status.Conditions = append(out.Status.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{
				Type: autoscalingv2.HorizontalPodAutoscalerConditionType(c.Type), Status: c.Status,
				LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
			})
		}
	}
	out.Annotations = stripped(in.Annotations)
	return out
}

func annotation(h *autoscalingv1.HorizontalPodAutoscaler, key string, into any) bool {
	text, found := h.Annotations[key]
	return found && json.Unmarshal([]byte(text), into) == nil
}

func rulesFromText(r *rulesText) *autoscalingv2.HPAScalingRules {
	if r == nil {
		return nil
	}
	out := &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: r.StabilizationWindowSeconds, SelectPolicy: r.SelectPolicy, Tolerance: r.Tolerance}
	for _, p := range r.Policies {
		out.Policies = append(out.Policies, autoscalingv2.HPAScalingPolicy{Type: p.Type, Value: p.Value, PeriodSeconds: p.PeriodSeconds})
	}
	return out
}

// metricsFromV1 puts the metrics of the annotation first and that of the field last; with neither, it is CPU at its default.
func metricsFromV1(in *autoscalingv1.HorizontalPodAutoscaler) []autoscalingv2.MetricSpec {
	var out []autoscalingv2.MetricSpec
	var others []autoscalingv1.MetricSpec
	if annotation(in, metricsAnnotation, &others) {
		for i := range others {
			out = append(out, metricFromV1(&others[i]))
		}
	}
	if percent := in.Spec.TargetCPUUtilizationPercentage; percent != nil {
		out = append(out, cpuUtilization(*percent))
	}
	if len(out) == 0 {
		out = append(out, cpuUtilization(defaultUtilization))
	}
	return out
}

func statusesFromV1(in *autoscalingv1.HorizontalPodAutoscaler) []autoscalingv2.MetricStatus {
	var statuses []autoscalingv1.MetricStatus
	if annotation(in, statusesAnnotation, &statuses) {
		out := make([]autoscalingv2.MetricStatus, len(statuses))
		for i := range statuses {
			out[i] = statusFromV1(&statuses[i])
		}
		return out
	}
	percent := in.Status.CurrentCPUUtilizationPercentage
	if percent == nil {
		return nil
	}
	return []autoscalingv2.MetricStatus{{
		Type: autoscalingv2.ResourceMetricSourceType,
		Resource: &autoscalingv2.ResourceMetricStatus{
			Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: percent},
		},
	}}
}
