// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package autoscaling

import (
	"fmt"
	"strconv"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"

	"kogge.dev/kogge/kinds/table"
)

// shownTargets is how many metrics the column names before it counts the rest.
const shownTargets = 2

func minText(replicas *int32) string {
	if replicas == nil {
		return table.Unset
	}
	return strconv.Itoa(int(*replicas))
}

// targets lists each metric as current/target.
func targets(h *autoscalingv2.HorizontalPodAutoscaler) string {
	if len(h.Spec.Metrics) == 0 {
		return table.None
	}
	var out []string
	for i := range h.Spec.Metrics {
		var status autoscalingv2.MetricStatus
		if i < len(h.Status.CurrentMetrics) {
			status = h.Status.CurrentMetrics[i]
		}
		out = append(out, target(&h.Spec.Metrics[i], &status))
	}
	if len(out) > shownTargets {
		return fmt.Sprintf("%s + %d more...", strings.Join(out[:shownTargets], ", "), len(out)-shownTargets)
	}
	return strings.Join(out, ", ")
}

func target(spec *autoscalingv2.MetricSpec, status *autoscalingv2.MetricStatus) string {
	var now *autoscalingv2.MetricValueStatus
	switch {
	case spec.Type == autoscalingv2.ExternalMetricSourceType && spec.External != nil:
		if status.External != nil {
			now = &status.External.Current
		}
		return valueTarget(&spec.External.Target, now)
	case spec.Type == autoscalingv2.ObjectMetricSourceType && spec.Object != nil:
		if status.Object != nil {
			now = &status.Object.Current
		}
		return valueTarget(&spec.Object.Target, now)
	case spec.Type == autoscalingv2.PodsMetricSourceType && spec.Pods != nil:
		if status.Pods != nil {
			now = &status.Pods.Current
		}
		return average(now) + "/" + quantity(spec.Pods.Target.AverageValue)
	case spec.Type == autoscalingv2.ResourceMetricSourceType && spec.Resource != nil:
		if status.Resource != nil {
			now = &status.Resource.Current
		}
		return spec.Resource.Name.String() + ": " + resourceTarget(&spec.Resource.Target, now)
	case spec.Type == autoscalingv2.ContainerResourceMetricSourceType && spec.ContainerResource != nil:
		if status.ContainerResource != nil {
			now = &status.ContainerResource.Current
		}
		return spec.ContainerResource.Name.String() + ": " + resourceTarget(&spec.ContainerResource.Target, now)
	}
	return "<unknown type>"
}

func valueTarget(target *autoscalingv2.MetricTarget, now *autoscalingv2.MetricValueStatus) string {
	if target.AverageValue != nil {
		return average(now) + "/" + target.AverageValue.String() + " (avg)"
	}
	current := table.Unknown
	if now != nil {
		current = quantity(now.Value)
	}
	return current + "/" + quantity(target.Value)
}

func resourceTarget(target *autoscalingv2.MetricTarget, now *autoscalingv2.MetricValueStatus) string {
	if target.AverageValue != nil {
		return average(now) + "/" + target.AverageValue.String()
	}
	current, wanted := table.Unknown, "<auto>"
	if now != nil && now.AverageUtilization != nil {
		current = fmt.Sprintf("%d%%", *now.AverageUtilization)
	}
	if target.AverageUtilization != nil {
		wanted = fmt.Sprintf("%d%%", *target.AverageUtilization)
	}
	return current + "/" + wanted
}

func average(now *autoscalingv2.MetricValueStatus) string {
	if now == nil || now.AverageValue == nil {
		return table.Unknown
	}
	return now.AverageValue.String()
}

func quantity(q *resource.Quantity) string {
	if q == nil {
		return "<nil>"
	}
	return q.String()
}
