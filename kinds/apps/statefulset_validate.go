// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

// statefulSetRules say what an update may leave unjudged: immutable fields stay as they were stored, and a pod template
// that was already wrong may not stop other changes.
type statefulSetRules struct {
	old          *corev1.PodTemplateSpec
	update       bool
	skipTemplate bool
}

func validateStatefulSet(_ kinds.Request, s *appsv1.StatefulSet) field.ErrorList {
	return validateStatefulSetSpec(&s.Spec, field.NewPath("spec"), statefulSetRules{})
}

func validateStatefulSetUpdate(_ kinds.Request, new, old *appsv1.StatefulSet) field.ErrorList {
	rules := statefulSetRules{old: &old.Spec.Template, update: true}
	rules.skipTemplate = len(validateStatefulSetSpec(&old.Spec, nil, rules)) > 0
	path := field.NewPath("spec")
	errs := validateStatefulSetSpec(&new.Spec, path, rules)

	fixed := new.Spec
	fixed.Replicas = old.Spec.Replicas
	fixed.Template = old.Spec.Template
	fixed.UpdateStrategy = old.Spec.UpdateStrategy
	fixed.MinReadySeconds = old.Spec.MinReadySeconds
	fixed.Ordinals = old.Spec.Ordinals
	fixed.RevisionHistoryLimit = old.Spec.RevisionHistoryLimit
	fixed.PersistentVolumeClaimRetentionPolicy = old.Spec.PersistentVolumeClaimRetentionPolicy
	if !equal.Semantic(fixed, old.Spec) {
		errs = append(errs, field.Forbidden(path, "updates to statefulset spec for fields other than 'replicas', 'ordinals', "+
			"'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"))
	}
	return errs
}

func validateStatefulSetSpec(spec *appsv1.StatefulSetSpec, path *field.Path, rules statefulSetRules) field.ErrorList {
	var errs field.ErrorList
	switch spec.PodManagementPolicy {
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	case "":
		errs = append(errs, field.Required(path.Child("podManagementPolicy"), ""))
	default:
		errs = append(errs, field.Invalid(path.Child("podManagementPolicy"), spec.PodManagementPolicy,
			fmt.Sprintf("must be '%s' or '%s'", appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement)))
	}
	errs = append(errs, validateStatefulSetStrategy(&spec.UpdateStrategy, path.Child("updateStrategy"))...)
	errs = append(errs, validateClaimRetention(spec.PersistentVolumeClaimRetentionPolicy, path.Child("persistentVolumeClaimRetentionPolicy"))...)
	if !rules.update {
		errs = append(errs, validateClaimTemplates(spec.VolumeClaimTemplates, path.Child("volumeClaimTemplates"))...)
	}
	errs = append(errs, check.Counts(path, check.Optional("replicas", spec.Replicas), n32("minReadySeconds", spec.MinReadySeconds))...)
	if spec.Ordinals != nil {
		errs = append(errs, check.Counts(path, n32("ordinals.start", spec.Ordinals.Start))...)
	}
	if !rules.update && spec.ServiceName != "" {
		errs = append(errs, check.Label(spec.ServiceName, path.Child("serviceName"))...)
	}
	errs = append(errs, requireSelector(spec.Selector, path.Child("selector"), "statefulset")...)
	template := path.Child("template")
	selector, err := metav1.LabelSelectorAsSelector(spec.Selector)
	if err != nil {
		errs = append(errs, field.Invalid(path.Child("selector"), spec.Selector, ""))
	} else {
		errs = append(errs, matchLabels(selector, &spec.Template, template)...)
		if !rules.skipTemplate {
			errs = append(errs, validateTemplate(podsOf(spec), rules.old, template)...)
		}
	}
	return append(errs, restartAlways(&spec.Template, template, "StatefulSet")...)
}

// podsOf returns the template as its pods will have it: the claims of volumeClaimTemplates are volumes, and hostname and
// subdomain are the controller's to set.
func podsOf(spec *appsv1.StatefulSetSpec) *corev1.PodTemplateSpec {
	template := spec.Template.DeepCopy()
	template.Spec.Hostname, template.Spec.Subdomain = "", ""
	claimed := make(map[string]bool, len(spec.VolumeClaimTemplates))
	var volumes []corev1.Volume
	for i := range spec.VolumeClaimTemplates {
		name := spec.VolumeClaimTemplates[i].Name
		if claimed[name] {
			continue
		}
		claimed[name] = true
		source := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
		volumes = append(volumes, corev1.Volume{Name: name, VolumeSource: source})
	}
	for _, v := range template.Spec.Volumes {
		if !claimed[v.Name] {
			volumes = append(volumes, v)
		}
	}
	template.Spec.Volumes = volumes
	return template
}

func validateStatefulSetStrategy(strategy *appsv1.StatefulSetUpdateStrategy, path *field.Path) field.ErrorList {
	rolling := path.Child("rollingUpdate")
	switch strategy.Type {
	case "":
		return field.ErrorList{field.Required(path, "")}
	case appsv1.OnDeleteStatefulSetStrategyType:
		if strategy.RollingUpdate != nil {
			return field.ErrorList{field.Invalid(rolling, strategy.RollingUpdate, "only allowed for updateStrategy 'RollingUpdate'")}
		}
		return nil
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if strategy.RollingUpdate == nil {
			return nil
		}
		errs := check.Counts(rolling, check.Optional("partition", strategy.RollingUpdate.Partition))
		if value := strategy.RollingUpdate.MaxUnavailable; value != nil {
			at := rolling.Child("maxUnavailable")
			errs = append(errs, check.IntOrPercent(*value, at)...)
			if check.IntOrPercentValue(*value) == 0 {
				errs = append(errs, field.Invalid(at, *value, "cannot be 0"))
			}
			errs = append(errs, check.AtMost100Percent(*value, at)...)
		}
		return errs
	}
	return field.ErrorList{field.Invalid(path, strategy, fmt.Sprintf("must be '%s' or '%s'",
		appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType))}
}

func validateClaimRetention(policy *appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy, path *field.Path) field.ErrorList {
	if policy == nil {
		return nil
	}
	allowed := []appsv1.PersistentVolumeClaimRetentionPolicyType{
		appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
	}
	var errs field.ErrorList
	for _, p := range []struct {
		name  string
		value appsv1.PersistentVolumeClaimRetentionPolicyType
	}{{"whenDeleted", policy.WhenDeleted}, {"whenScaled", policy.WhenScaled}} {
		if p.value != allowed[0] && p.value != allowed[1] {
			errs = append(errs, field.NotSupported(path.Child(p.name), p.value, allowed))
		}
	}
	return errs
}

func validateStatefulSetStatus(_ kinds.Request, new, old *appsv1.StatefulSet) field.ErrorList {
	path, s := field.NewPath("status"), &new.Status
	ready, current := n32("readyReplicas", s.ReadyReplicas), n32("currentReplicas", s.CurrentReplicas)
	updated, available := n32("updatedReplicas", s.UpdatedReplicas), n32("availableReplicas", s.AvailableReplicas)
	errs := check.Counts(path,
		n32("replicas", s.Replicas), ready, current, updated, available,
		check.Count{Field: "observedGeneration", Value: s.ObservedGeneration},
		check.Optional("collisionCount", s.CollisionCount),
	)
	errs = append(errs, check.Within(path, s.Replicas, "cannot be greater than status.replicas", ready, current, updated, available)...)
	errs = append(errs, check.Within(path, s.ReadyReplicas, "cannot be greater than status.readyReplicas", available)...)
	return append(errs, check.NotDecremented(path.Child("collisionCount"), s.CollisionCount, old.Status.CollisionCount)...)
}
