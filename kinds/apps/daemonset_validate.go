// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

func validateDaemonSet(_ kinds.Request, ds *appsv1.DaemonSet) field.ErrorList {
	return validateDaemonSetSpec(&ds.Spec, nil, nil, field.NewPath("spec"))
}

func validateDaemonSetUpdate(_ kinds.Request, new, old *appsv1.DaemonSet) field.ErrorList {
	path := field.NewPath("spec")
	errs := check.Immutable(new.Spec.Selector, old.Spec.Selector, path.Child("selector"))
	return append(errs, validateDaemonSetSpec(&new.Spec, &old.Spec.Template, old.Spec.Selector, path)...)
}

func validateDaemonSetSpec(spec *appsv1.DaemonSetSpec, oldTemplate *corev1.PodTemplateSpec, oldSelector *metav1.LabelSelector, path *field.Path) field.ErrorList {
	errs := check.LenientSelector(spec.Selector, oldSelector, path.Child("selector"))
	template := path.Child("template")
	parsed, err := metav1.LabelSelectorAsSelector(spec.Selector)
	if err == nil && !parsed.Matches(labels.Set(spec.Template.Labels)) {
		errs = append(errs, field.Invalid(template.Child("metadata", "labels"), spec.Template.Labels, mismatch))
	}
	if spec.Selector != nil && check.Empty(spec.Selector) {
		errs = append(errs, field.Invalid(path.Child("selector"), spec.Selector, "empty selector is invalid for daemonset"))
	}
	errs = append(errs, validateTemplate(&spec.Template, oldTemplate, template)...)
	errs = append(errs, restartAlways(&spec.Template, template, "DaemonSet")...)
	errs = append(errs, check.Counts(path, n32("minReadySeconds", spec.MinReadySeconds))...)
	errs = append(errs, validateDaemonSetStrategy(&spec.UpdateStrategy, path.Child("updateStrategy"))...)
	return append(errs, check.Counts(path, check.Optional("revisionHistoryLimit", spec.RevisionHistoryLimit))...)
}

func validateDaemonSetStrategy(strategy *appsv1.DaemonSetUpdateStrategy, path *field.Path) field.ErrorList {
	switch strategy.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
		return nil
	case appsv1.RollingUpdateDaemonSetStrategyType:
		if strategy.RollingUpdate == nil {
			return field.ErrorList{field.Required(path.Child("rollingUpdate"), "")}
		}
		return validateRollingDaemonSet(strategy.RollingUpdate, path.Child("rollingUpdate"))
	}
	allowed := []appsv1.DaemonSetUpdateStrategyType{appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType}
	return field.ErrorList{field.NotSupported(path, strategy, allowed)}
}

// validateRollingDaemonSet requires exactly one of the two ways to roll: take a pod away first, or add one first.
func validateRollingDaemonSet(rolling *appsv1.RollingUpdateDaemonSet, path *field.Path) field.ErrorList {
	unavailable, surge := orZero(rolling.MaxUnavailable), orZero(rolling.MaxSurge)
	errs := check.IntOrPercent(unavailable, path.Child("maxUnavailable"))
	errs = append(errs, check.IntOrPercent(surge, path.Child("maxSurge"))...)
	errs = append(errs, check.AtMost100Percent(unavailable, path.Child("maxUnavailable"))...)
	errs = append(errs, check.AtMost100Percent(surge, path.Child("maxSurge"))...)
	takes, adds := check.IntOrPercentValue(unavailable) != 0, check.IntOrPercentValue(surge) != 0
	switch {
	case takes && adds:
		errs = append(errs, field.Invalid(path.Child("maxSurge"), surge, "may not be set when maxUnavailable is non-zero"))
	case !takes && !adds:
		errs = append(errs, field.Required(path.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
	}
	return errs
}

func validateDaemonSetStatus(_ kinds.Request, new, old *appsv1.DaemonSet) field.ErrorList {
	path, s := field.NewPath("status"), &new.Status
	errs := check.Counts(path,
		n32("currentNumberScheduled", s.CurrentNumberScheduled),
		n32("numberMisscheduled", s.NumberMisscheduled),
		n32("desiredNumberScheduled", s.DesiredNumberScheduled),
		n32("numberReady", s.NumberReady),
		check.Count{Field: "observedGeneration", Value: s.ObservedGeneration},
		n32("updatedNumberScheduled", s.UpdatedNumberScheduled),
		n32("numberAvailable", s.NumberAvailable),
		n32("numberUnavailable", s.NumberUnavailable),
		check.Optional("collisionCount", s.CollisionCount),
	)
	return append(errs, check.NotDecremented(path.Child("collisionCount"), s.CollisionCount, old.Status.CollisionCount)...)
}
