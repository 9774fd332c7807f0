// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package podspec holds what pods and all kinds with a pod template share: defaults, validation, rules of updates and
// warnings of a pod spec. Each file is named after the part of the spec that it judges.
package podspec

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/objectmeta"
)

// Validate judges a pod spec, defaults filled in. meta is the metadata of the pod that has it; nil for a template.
func Validate(spec *corev1.PodSpec, meta *metav1.ObjectMeta, opts Options, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.TerminationGracePeriodSeconds == nil {
		errs = append(errs, field.Required(at.Child("terminationGracePeriodSeconds"), ""))
	}
	volumes, bad := validateVolumes(spec.Volumes, meta, opts, at.Child("volumes"))
	errs = append(errs, bad...)
	s := &surroundings{spec: spec, opts: opts, volumes: volumes, claims: claimNames(spec.ResourceClaims), hostUsers: sharesUsers(spec)}
	errs = append(errs, validatePodClaims(spec.ResourceClaims, meta, at.Child("resourceClaims"))...)
	errs = append(errs, s.validateContainers(at.Child("containers"))...)
	errs = append(errs, s.validateInitContainers(at.Child("initContainers"))...)
	errs = append(errs, s.validateEphemeralContainers(at.Child("ephemeralContainers"))...)
	errs = append(errs, s.validatePodResources(at.Child("resources"))...)
	errs = append(errs, validateHostNetwork(spec, opts, at)...)
	errs = append(errs, check.OneOf(spec.RestartPolicy, at.Child("restartPolicy"), corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)...)
	errs = append(errs, objectmeta.ValidateLabels(spec.NodeSelector, at.Child("nodeSelector"))...)
	errs = append(errs, validatePodSecurity(spec, opts, at.Child("securityContext"))...)
	errs = append(errs, validateAffinity(spec.Affinity, opts, at.Child("affinity"))...)
	errs = append(errs, validateDNS(spec, at)...)
	errs = append(errs, validateGates(spec, at)...)
	errs = append(errs, validateSpread(spec.TopologySpreadConstraints, opts, at.Child("topologySpreadConstraints"))...)
	errs = append(errs, validateHostProcess(spec, at)...)
	errs = append(errs, validateHostUsers(spec, opts, at)...)
	errs = append(errs, validateHostname(spec, at)...)
	errs = append(errs, validateNames(spec, at)...)
	errs = append(errs, ValidateTolerations(spec.Tolerations, opts, at.Child("tolerations"))...)
	errs = append(errs, validateHostAliases(spec.HostAliases, at.Child("hostAliases"))...)
	if spec.ActiveDeadlineSeconds != nil {
		if seconds := *spec.ActiveDeadlineSeconds; seconds < 1 || seconds > math.MaxInt32 {
			errs = append(errs, field.Invalid(at.Child("activeDeadlineSeconds"), seconds, validation.InclusiveRangeError(1, math.MaxInt32)))
		}
	}
	if spec.PreemptionPolicy != nil {
		errs = append(errs, check.OneOf(*spec.PreemptionPolicy, at.Child("preemptionPolicy"), corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	if spec.Overhead != nil {
		errs = append(errs, validateResources(&corev1.ResourceRequirements{Limits: spec.Overhead}, ValidateContainerResourceName, nil, opts, at.Child("overhead"))...)
	}
	errs = append(errs, validateOS(spec, at)...)
	return append(errs, validateFileVolumes(spec, at)...)
}

// validateNames judges the names of other objects that a spec refers to.
func validateNames(spec *corev1.PodSpec, at *field.Path) field.ErrorList {
	runtimeClass := ""
	if spec.RuntimeClassName != nil {
		runtimeClass = *spec.RuntimeClassName
		if runtimeClass == "" {
			return check.Messages(at.Child("runtimeClassName"), "", objectmeta.Subdomain("", false))
		}
	}
	var errs field.ErrorList
	for _, ref := range []struct{ field, name string }{
		{"serviceAccountName", spec.ServiceAccountName},
		{"nodeName", spec.NodeName},
		{"priorityClassName", spec.PriorityClassName},
		{"runtimeClassName", runtimeClass},
	} {
		if ref.name != "" {
			errs = append(errs, check.Messages(at.Child(ref.field), ref.name, objectmeta.Subdomain(ref.name, false))...)
		}
	}
	return errs
}

// ValidateTemplate judges a pod template.
func ValidateTemplate(template *corev1.PodTemplateSpec, opts Options, at *field.Path) field.ErrorList {
	spec, annotations := at.Child("spec"), at.Child("annotations")
	errs := objectmeta.ValidateLabels(template.Labels, at.Child("labels"))
	errs = append(errs, objectmeta.ValidateAnnotations(template.Annotations, annotations)...)
	errs = append(errs, validateAnnotations(template.Annotations, &template.Spec, opts, annotations)...)
	errs = append(errs, Validate(&template.Spec, nil, opts, spec)...)
	errs = append(errs, validateProfiles(template.Annotations, &template.Spec, spec)...)
	if len(template.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

// ValidateTemplateUpdate judges a pod template that is to replace old.
func ValidateTemplateUpdate(template, old *corev1.PodTemplateSpec, at *field.Path) field.ErrorList {
	return ValidateTemplate(template, TemplateOptions(old), at)
}

// ValidatePod judges a pod to be created.
func ValidatePod(pod *corev1.Pod) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateWholePod(pod, OptionsFor(nil))
	if len(pod.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if pod.Spec.NodeName != "" && len(pod.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return append(errs, validateProfiles(pod.Annotations, &pod.Spec, spec)...)
}

// validateWholePod judges what holds for a pod at all times.
func validateWholePod(pod *corev1.Pod, opts Options) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateAnnotations(pod.Annotations, &pod.Spec, opts, field.NewPath("metadata", "annotations"))
	errs = append(errs, Validate(&pod.Spec, &pod.ObjectMeta, opts, spec)...)
	if pod.Spec.ServiceAccountName == "" {
		for i, v := range pod.Spec.Volumes {
			if v.Projected == nil {
				continue
			}
			for j, source := range v.Projected.Sources {
				if source.ServiceAccountToken != nil {
					errs = append(errs, field.Forbidden(spec.Child("volumes").Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken"),
						"must not be specified when serviceAccountName is not set"))
				}
			}
		}
	}
	for i := range pod.Spec.Containers {
		errs = append(errs, validateImageSpace(&pod.Spec.Containers[i], spec.Child("containers").Index(i))...)
	}
	for i := range pod.Spec.InitContainers {
		errs = append(errs, validateImageSpace(&pod.Spec.InitContainers[i], spec.Child("initContainers").Index(i))...)
	}
	return errs
}
