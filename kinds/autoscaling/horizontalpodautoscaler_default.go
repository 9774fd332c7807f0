// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package autoscaling

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// Defaults of an autoscaler.
const (
	defaultMinReplicas    = int32(1)
	defaultUtilization    = 80 // percent of the requested CPU
	defaultUpPods         = 4  // pods per period
	defaultPercent        = 100
	defaultPeriod         = 15 // seconds
	defaultUpStabilizaton = 0  // seconds
)

func defaultAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) {
	h.Spec.MinReplicas = new(ptr.Deref(h.Spec.MinReplicas, defaultMinReplicas))
	if len(h.Spec.Metrics) == 0 {
		h.Spec.Metrics = []autoscalingv2.MetricSpec{cpuUtilization(defaultUtilization)}
	}
	if b := h.Spec.Behavior; b != nil {
		percent := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: defaultPercent, PeriodSeconds: defaultPeriod}
		pods := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: defaultUpPods, PeriodSeconds: defaultPeriod}
		b.ScaleUp = withDefaults(b.ScaleUp, ptr.To[int32](defaultUpStabilizaton), pods, percent)
		// How long to wait before scaling down is a setting of the controller unless the object says it.
		b.ScaleDown = withDefaults(b.ScaleDown, nil, percent)
	}
}

// cpuUtilization is the metric that an autoscaler has always had.
func cpuUtilization(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{
		Type: autoscalingv2.ResourceMetricSourceType,
		Resource: &autoscalingv2.ResourceMetricSource{
			Name:   corev1.ResourceCPU,
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
		},
	}
}

// withDefaults fills rules; the rules themselves may be absent.
func withDefaults(rules *autoscalingv2.HPAScalingRules, stabilization *int32, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	if rules == nil {
		rules = &autoscalingv2.HPAScalingRules{}
	}
	if rules.SelectPolicy == nil {
		rules.SelectPolicy = ptr.To(autoscalingv2.MaxChangePolicySelect)
	}
	if rules.StabilizationWindowSeconds == nil {
		rules.StabilizationWindowSeconds = stabilization
	}
	if rules.Policies == nil {
		rules.Policies = policies
	}
	return rules
}
