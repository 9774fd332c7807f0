// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package autoscaling

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/podspec"
)

// metric judges one metric: the source that its type names, and no other.
func (l leniency) metric(m *autoscalingv2.MetricSpec, path *field.Path) field.ErrorList {
	sources := []struct {
		kind  autoscalingv2.MetricSourceType
		name  string
		set   bool
		judge func(*field.Path) field.ErrorList
	}{
		{autoscalingv2.ObjectMetricSourceType, "object", m.Object != nil, func(at *field.Path) field.ErrorList { return l.object(m.Object, at) }},
		{autoscalingv2.ExternalMetricSourceType, "external", m.External != nil, func(at *field.Path) field.ErrorList { return validateExternal(m.External, at) }},
		{autoscalingv2.PodsMetricSourceType, "pods", m.Pods != nil, func(at *field.Path) field.ErrorList { return validatePods(m.Pods, at) }},
		{autoscalingv2.ResourceMetricSourceType, "resource", m.Resource != nil, func(at *field.Path) field.ErrorList {
			return validateResource(string(m.Resource.Name), &m.Resource.Target, at)
		}},
		{autoscalingv2.ContainerResourceMetricSourceType, "containerResource", m.ContainerResource != nil, func(at *field.Path) field.ErrorList {
			return validateContainerResource(m.ContainerResource, at)
		}},
	}
	var errs field.ErrorList
	known := []autoscalingv2.MetricSourceType{
		autoscalingv2.ContainerResourceMetricSourceType, autoscalingv2.ExternalMetricSourceType, autoscalingv2.ObjectMetricSourceType,
		autoscalingv2.PodsMetricSourceType, autoscalingv2.ResourceMetricSourceType,
	}
	if m.Type == "" {
		errs = append(errs, field.Required(path.Child("type"), "must specify a metric source type"))
	}
	errs = append(errs, notSupported(m.Type, path.Child("type"), known...)...)
	present := 0
	for _, s := range sources {
		if s.set {
			if present == 0 {
				errs = append(errs, s.judge(path.Child(s.name))...)
			}
			present++
		} else if s.kind == m.Type {
			errs = append(errs, field.Required(path.Child(s.name), "must populate information for the given metric source"))
		}
	}
	if present == 1 {
		return errs
	}
	for _, s := range sources {
		if s.set && s.kind != m.Type {
			errs = append(errs, field.Forbidden(path.Child(s.name), "must populate the given metric source only"))
		}
	}
	return errs
}

func (l leniency) object(s *autoscalingv2.ObjectMetricSource, path *field.Path) field.ErrorList {
	at := path.Child("describedObject")
	errs := validateReference(s.DescribedObject, at)
	if !l.metricVersion {
		if err := checkVersion(s.DescribedObject.APIVersion, true); err != nil {
			errs = append(errs, field.Invalid(at.Child("apiVersion"), s.DescribedObject.APIVersion, err.Error()))
		}
	}
	errs = append(errs, requireSegment(s.Metric.Name, path.Child("metric", "name"), "must specify a metric name")...)
	errs = append(errs, validateTarget(&s.Target, path.Child("target"))...)
	if s.Target.Value == nil && s.Target.AverageValue == nil {
		errs = append(errs, field.Required(path.Child("target", "averageValue"), "must set either a target value or averageValue"))
	}
	return errs
}

func validateExternal(s *autoscalingv2.ExternalMetricSource, path *field.Path) field.ErrorList {
	errs := requireSegment(s.Metric.Name, path.Child("metric", "name"), "must specify a metric name")
	errs = append(errs, validateTarget(&s.Target, path.Child("target"))...)
	switch whole, each := s.Target.Value != nil, s.Target.AverageValue != nil; {
	case !whole && !each:
		errs = append(errs, field.Required(path.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target"))
	case whole && each:
		errs = append(errs, field.Forbidden(path.Child("target", "value"), "may not set both a target value for metric and a per-pod target"))
	}
	return errs
}

func validatePods(s *autoscalingv2.PodsMetricSource, path *field.Path) field.ErrorList {
	errs := requireSegment(s.Metric.Name, path.Child("metric", "name"), "must specify a metric name")
	errs = append(errs, validateTarget(&s.Target, path.Child("target"))...)
	if s.Target.AverageValue == nil {
		errs = append(errs, field.Required(path.Child("target", "averageValue"), "must specify a positive target averageValue"))
	}
	return errs
}

func validateContainerResource(s *autoscalingv2.ContainerResourceMetricSource, path *field.Path) field.ErrorList {
	errs := validateResource(string(s.Name), &s.Target, path)
	if s.Name != "" {
		errs = append(errs, podspec.ValidateContainerResourceName(s.Name, path.Child("name"))...)
	}
	if s.Container == "" {
		return append(errs, field.Required(path.Child("container"), "must specify a container"))
	}
	return append(errs, check.Label(s.Container, path.Child("container"))...)
}

func validateResource(name string, target *autoscalingv2.MetricTarget, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name == "" {
		errs = append(errs, field.Required(path.Child("name"), "must specify a resource name"))
	}
	at := path.Child("target")
	errs = append(errs, validateTarget(target, at)...)
	switch share, raw := target.AverageUtilization != nil, target.AverageValue != nil; {
	case !share && !raw:
		errs = append(errs, field.Required(at.Child("averageUtilization"), "must set either a target raw value or a target utilization"))
	case share && raw:
		errs = append(errs, field.Forbidden(at.Child("averageValue"), "may not set both a target raw value and a target utilization"))
	}
	return errs
}

func validateTarget(t *autoscalingv2.MetricTarget, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch t.Type {
	case autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType, autoscalingv2.AverageValueMetricType:
	default:
		if t.Type == "" {
			errs = append(errs, field.Required(path.Child("type"), "must specify a metric target type"))
		}
		errs = append(errs, field.Invalid(path.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
	}
	if t.Value != nil && t.Value.Sign() != 1 {
		errs = append(errs, field.Invalid(path.Child("value"), t.Value, "must be positive"))
	}
	if t.AverageValue != nil && t.AverageValue.Sign() != 1 {
		errs = append(errs, field.Invalid(path.Child("averageValue"), t.AverageValue, "must be positive"))
	}
	if t.AverageUtilization != nil && *t.AverageUtilization < 1 {
		errs = append(errs, field.Invalid(path.Child("averageUtilization"), t.AverageUtilization, "must be greater than 0"))
	}
	return errs
}
