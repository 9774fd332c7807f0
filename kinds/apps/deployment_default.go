// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/kinds/podspec"
)

// Defaults shared by the group's workloads.
const (
	defaultReplicas         = 1
	defaultRevisionHistory  = 10
	defaultProgressDeadline = 600 // seconds
	defaultRollingPart      = "25%"
)

func defaultDeployment(d *appsv1.Deployment) {
	podspec.DefaultTemplate(&d.Spec.Template)
	fill(&d.Spec.Replicas, defaultReplicas)
	fill(&d.Spec.RevisionHistoryLimit, defaultRevisionHistory)
	fill(&d.Spec.ProgressDeadlineSeconds, defaultProgressDeadline)
	strategy := &d.Spec.Strategy
	if strategy.Type == "" {
		strategy.Type = appsv1.RollingUpdateDeploymentStrategyType
	}
	if strategy.Type != appsv1.RollingUpdateDeploymentStrategyType {
		return
	}
	if strategy.RollingUpdate == nil {
		strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{}
	}
	fill(&strategy.RollingUpdate.MaxUnavailable, intstr.FromString(defaultRollingPart))
	fill(&strategy.RollingUpdate.MaxSurge, intstr.FromString(defaultRollingPart))
}

func defaultReplicaSet(rs *appsv1.ReplicaSet) {
	podspec.DefaultTemplate(&rs.Spec.Template)
	fill(&rs.Spec.Replicas, defaultReplicas)
}

func defaultDaemonSet(ds *appsv1.DaemonSet) {
	if _, there := ds.Annotations[appsv1.DeprecatedTemplateGeneration]; !there {
		setTemplateGeneration(ds, 0)
	}
	podspec.DefaultTemplate(&ds.Spec.Template)
	fill(&ds.Spec.RevisionHistoryLimit, defaultRevisionHistory)
	strategy := &ds.Spec.UpdateStrategy
	if strategy.Type == "" {
		strategy.Type = appsv1.RollingUpdateDaemonSetStrategyType
	}
	if strategy.Type != appsv1.RollingUpdateDaemonSetStrategyType {
		return
	}
	if strategy.RollingUpdate == nil {
		strategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{}
	}
	fill(&strategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
	fill(&strategy.RollingUpdate.MaxSurge, intstr.FromInt32(0))
}

// fill points *p at value when it points nowhere.
func fill[T any](p **T, value T) {
	if *p == nil {
		*p = new(value)
	}
}
