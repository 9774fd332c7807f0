// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

func validateDeployment(_ kinds.Request, d *appsv1.Deployment) field.ErrorList {
	return validateDeploymentSpec(&d.Spec, nil, field.NewPath("spec"))
}

func validateDeploymentUpdate(_ kinds.Request, new, old *appsv1.Deployment) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateDeploymentSpec(&new.Spec, &old.Spec.Template, path)
	return append(errs, check.Immutable(new.Spec.Selector, old.Spec.Selector, path.Child("selector"))...)
}

func validateDeploymentSpec(spec *appsv1.DeploymentSpec, old *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	errs := check.Counts(path, check.Optional("replicas", spec.Replicas))
	errs = append(errs, validateReplicatedTemplate(spec.Selector, &spec.Template, old, path)...)
	errs = append(errs, validateDeploymentStrategy(&spec.Strategy, path.Child("strategy"))...)
	errs = append(errs, check.Counts(path,
		check.Count{Field: "minReadySeconds", Value: int64(spec.MinReadySeconds)},
		check.Optional("revisionHistoryLimit", spec.RevisionHistoryLimit),
		check.Optional("progressDeadlineSeconds", spec.ProgressDeadlineSeconds),
	)...)
	if spec.ProgressDeadlineSeconds != nil && *spec.ProgressDeadlineSeconds <= spec.MinReadySeconds {
		errs = append(errs, field.Invalid(path.Child("progressDeadlineSeconds"), spec.ProgressDeadlineSeconds, "must be greater than minReadySeconds"))
	}
	return errs
}

// validateReplicatedTemplate judges selector and template of deployments and replica sets, which share their rules (and,
// on the wire, even the noun of one message).
func validateReplicatedTemplate(selector *metav1.LabelSelector, template, old *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	errs := requireSelector(selector, path.Child("selector"), "deployment")
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return append(errs, field.Invalid(path.Child("selector"), selector, "invalid label selector"))
	}
	path = path.Child("template")
	errs = append(errs, matchLabels(parsed, template, path)...)
	errs = append(errs, validateTemplate(template, old, path)...)
	return append(errs, restartAlways(template, path, "ReplicaSet")...)
}

func validateDeploymentStrategy(strategy *appsv1.DeploymentStrategy, path *field.Path) field.ErrorList {
	switch strategy.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if strategy.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(path.Child("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'")}
		}
		return nil
	case appsv1.RollingUpdateDeploymentStrategyType:
		if strategy.RollingUpdate == nil {
			return field.ErrorList{field.Required(path.Child("rollingUpdate"), "this should be defaulted and never be nil")}
		}
		return validateRollingDeployment(strategy.RollingUpdate, path.Child("rollingUpdate"))
	}
	allowed := []appsv1.DeploymentStrategyType{appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType}
	return field.ErrorList{field.NotSupported(path, strategy, allowed)}
}

func validateRollingDeployment(rolling *appsv1.RollingUpdateDeployment, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	unavailable, surge := orZero(rolling.MaxUnavailable), orZero(rolling.MaxSurge)
	errs = append(errs, check.IntOrPercent(unavailable, path.Child("maxUnavailable"))...)
	errs = append(errs, check.IntOrPercent(surge, path.Child("maxSurge"))...)
	if check.IntOrPercentValue(unavailable) == 0 && check.IntOrPercentValue(surge) == 0 {
		errs = append(errs, field.Invalid(path.Child("maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0"))
	}
	return append(errs, check.AtMost100Percent(unavailable, path.Child("maxUnavailable"))...)
}

func validateDeploymentStatus(_ kinds.Request, new, old *appsv1.Deployment) field.ErrorList {
	path, s := field.NewPath("status"), &new.Status
	updated, ready, available := n32("updatedReplicas", s.UpdatedReplicas), n32("readyReplicas", s.ReadyReplicas), n32("availableReplicas", s.AvailableReplicas)
	errs := check.Counts(path,
		check.Count{Field: "observedGeneration", Value: s.ObservedGeneration},
		n32("replicas", s.Replicas), updated, ready, available,
		n32("unavailableReplicas", s.UnavailableReplicas),
		check.Optional("terminatingReplicas", s.TerminatingReplicas),
		check.Optional("collisionCount", s.CollisionCount),
	)
	errs = append(errs, check.Within(path, s.Replicas, "cannot be greater than status.replicas", updated, ready, available)...)
	errs = append(errs, check.Within(path, s.ReadyReplicas, "cannot be greater than readyReplicas", available)...)
	return append(errs, check.NotDecremented(path.Child("collisionCount"), s.CollisionCount, old.Status.CollisionCount)...)
}

func n32(name string, value int32) check.Count { return check.Count{Field: name, Value: int64(value)} }
