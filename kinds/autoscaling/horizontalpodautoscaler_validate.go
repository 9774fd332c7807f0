// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package autoscaling

import (
	"errors"
	"fmt"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

// Bounds of scaling rules, in seconds.
const (
	maxPeriod        = 1800
	maxStabilization = 3600
)

// leniency says what an update may keep because it is stored already.
type leniency struct {
	zeroMin       bool // minReplicas of zero
	targetVersion bool // an apiVersion of the target that can't be read
	targetGroup   bool // a target with no group
	metricVersion bool // an apiVersion of a described object that can't be read
}

func validate(_ kinds.Request, h *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	return leniency{targetGroup: legacyTarget(h)}.spec(&h.Spec, field.NewPath("spec"))
}

// legacyTarget reports whether the target is of the only scalable kind in the core group, which has no group to name.
func legacyTarget(h *autoscalingv2.HorizontalPodAutoscaler) bool {
	return h.Spec.ScaleTargetRef.Kind == "ReplicationController"
}

func validateUpdate(_ kinds.Request, new, old *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	is, was := new.Spec.ScaleTargetRef, old.Spec.ScaleTargetRef
	l := leniency{
		zeroMin:       old.Spec.MinReplicas != nil && *old.Spec.MinReplicas == 0,
		targetVersion: is.APIVersion == was.APIVersion && is.Kind == was.Kind,
		targetGroup:   legacyTarget(new),
	}
	for i := range old.Spec.Metrics {
		if o := old.Spec.Metrics[i].Object; o != nil && checkVersion(o.DescribedObject.APIVersion, true) != nil {
			l.metricVersion = true
		}
	}
	return l.spec(&new.Spec, field.NewPath("spec"))
}

func validateStatus(_ kinds.Request, new, _ *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	return check.Counts(field.NewPath("status"),
		check.Count{Field: "currentReplicas", Value: int64(new.Status.CurrentReplicas)},
		check.Count{Field: "desiredReplicas", Value: int64(new.Status.DesiredReplicas)},
	)
}

func (l leniency) spec(spec *autoscalingv2.HorizontalPodAutoscalerSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	lowest := int32(1)
	if l.zeroMin {
		lowest = 0
	}
	if spec.MinReplicas != nil && *spec.MinReplicas < lowest {
		errs = append(errs, field.Invalid(path.Child("minReplicas"), *spec.MinReplicas, fmt.Sprintf("must be greater than or equal to %d", lowest)))
	}
	at := path.Child("maxReplicas")
	switch {
	case spec.MaxReplicas == 0:
		errs = append(errs, field.Required(at, "must be set and greater than 0"))
	case spec.MaxReplicas < 0:
		errs = append(errs, field.Invalid(at, spec.MaxReplicas, "must be greater than or equal to 1"))
	}
	if spec.MinReplicas != nil && spec.MaxReplicas < *spec.MinReplicas {
		errs = append(errs, field.Invalid(at, spec.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	target := path.Child("scaleTargetRef")
	errs = append(errs, validateReference(spec.ScaleTargetRef, target)...)
	if !l.targetVersion {
		if err := checkVersion(spec.ScaleTargetRef.APIVersion, l.targetGroup); err != nil {
			errs = append(errs, field.Invalid(target.Child("apiVersion"), spec.ScaleTargetRef.APIVersion, err.Error()))
		}
	}
	errs = append(errs, l.metrics(spec, path.Child("metrics"))...)
	if b := spec.Behavior; b != nil {
		errs = append(errs, validateRules(b.ScaleUp, path.Child("behavior", "scaleUp"))...)
		errs = append(errs, validateRules(b.ScaleDown, path.Child("behavior", "scaleDown"))...)
	}
	return errs
}

func validateReference(ref autoscalingv2.CrossVersionObjectReference, path *field.Path) field.ErrorList {
	return append(requireSegment(ref.Kind, path.Child("kind"), ""), requireSegment(ref.Name, path.Child("name"), "")...)
}

// requireSegment judges a name that must be there and must fit between two slashes of a URL.
func requireSegment(name string, path *field.Path, missing string) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, missing)}
	}
	return check.Messages(path, name, content.IsPathSegmentName(name))
}

func checkVersion(version string, emptyGroup bool) error {
	gv, err := schema.ParseGroupVersion(version)
	if err != nil {
		return err
	}
	if gv.Group == "" && !emptyGroup {
		return errors.New("apiVersion must specify API group")
	}
	return nil
}

func validateRules(rules *autoscalingv2.HPAScalingRules, path *field.Path) field.ErrorList {
	if rules == nil {
		return nil
	}
	var errs field.ErrorList
	if s := rules.StabilizationWindowSeconds; s != nil && *s < 0 {
		errs = append(errs, field.Invalid(path.Child("stabilizationWindowSeconds"), s, "must be greater than or equal to zero"))
	} else if s != nil && *s > maxStabilization {
		errs = append(errs, field.Invalid(path.Child("stabilizationWindowSeconds"), s, fmt.Sprintf("must be less than or equal to %d", maxStabilization)))
	}
	if p := rules.SelectPolicy; p != nil {
		errs = append(errs, notSupported(*p, path.Child("selectPolicy"),
			autoscalingv2.DisabledPolicySelect, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect)...)
	}
	at := path.Child("policies")
	if len(rules.Policies) == 0 {
		errs = append(errs, field.Required(at, "must specify at least one Policy"))
	}
	for i, p := range rules.Policies {
		errs = append(errs, validatePolicy(p, at.Index(i))...)
	}
	if t := rules.Tolerance; t != nil && t.Sign() < 0 {
		errs = append(errs, field.Invalid(path.Child("tolerance"), t.String(), validation.IsNegativeErrorMsg))
	}
	return errs
}

func validatePolicy(p autoscalingv2.HPAScalingPolicy, path *field.Path) field.ErrorList {
	errs := notSupported(p.Type, path.Child("type"), autoscalingv2.PercentScalingPolicy, autoscalingv2.PodsScalingPolicy)
	if p.Value <= 0 {
		errs = append(errs, field.Invalid(path.Child("value"), p.Value, "must be greater than zero"))
	}
	if p.PeriodSeconds <= 0 {
		errs = append(errs, field.Invalid(path.Child("periodSeconds"), p.PeriodSeconds, "must be greater than zero"))
	}
	if p.PeriodSeconds > maxPeriod {
		errs = append(errs, field.Invalid(path.Child("periodSeconds"), p.PeriodSeconds, fmt.Sprintf("must be less than or equal to %d", maxPeriod)))
	}
	return errs
}

// notSupported judges an enumeration, in which an empty value is as wrong as any other.
func notSupported[T ~string](value T, path *field.Path, allowed ...T) field.ErrorList {
	if slices.Contains(allowed, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, allowed)}
}

func (l leniency) metrics(spec *autoscalingv2.HorizontalPodAutoscalerSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	fromZero := false
	for i := range spec.Metrics {
		m := &spec.Metrics[i]
		errs = append(errs, l.metric(m, path.Index(i))...)
		fromZero = fromZero || m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType
	}
	if ptr.Deref(spec.MinReplicas, 1) == 0 && !fromZero {
		errs = append(errs, field.Forbidden(path, "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	return errs
}
