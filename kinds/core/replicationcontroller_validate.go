// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/podspec"
)

func validateController(_ kinds.Request, rc *corev1.ReplicationController) field.ErrorList {
	return validateControllerSpec(&rc.Spec, nil, field.NewPath("spec"))
}

func validateControllerUpdate(_ kinds.Request, new, old *corev1.ReplicationController) field.ErrorList {
	return validateControllerSpec(&new.Spec, old.Spec.Template, field.NewPath("spec"))
}

func validateControllerSpec(spec *corev1.ReplicationControllerSpec, old *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	errs := check.Counts(path, check.Count{Field: "minReadySeconds", Value: int64(spec.MinReadySeconds)})
	if len(spec.Selector) == 0 {
		errs = append(errs, field.Required(path.Child("selector"), ""))
	}
	if spec.Replicas == nil {
		errs = append(errs, field.Required(path.Child("replicas"), ""))
	} else {
		errs = append(errs, check.Counts(path, check.Optional("replicas", spec.Replicas))...)
	}
	at, template := path.Child("template"), spec.Template
	if template == nil {
		return append(errs, field.Required(at, ""))
	}
	if !labels.SelectorFromSet(spec.Selector).Matches(labels.Set(template.Labels)) {
		errs = append(errs, field.Invalid(at.Child("metadata", "labels"), template.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, podspec.ValidateTemplate(template, podspec.TemplateOptions(old), at)...)
	if template.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(at.Child("spec", "restartPolicy"), template.Spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if template.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(at.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicationController is not Supported"))
	}
	return errs
}

func validateControllerStatus(_ kinds.Request, new, _ *corev1.ReplicationController) field.ErrorList {
	path, s := field.NewPath("status"), &new.Status
	labelled := check.Count{Field: "fullyLabeledReplicas", Value: int64(s.FullyLabeledReplicas)}
	ready := check.Count{Field: "readyReplicas", Value: int64(s.ReadyReplicas)}
	available := check.Count{Field: "availableReplicas", Value: int64(s.AvailableReplicas)}
	errs := check.Counts(path, check.Count{Field: "replicas", Value: int64(s.Replicas)}, labelled, ready, available,
		check.Count{Field: "observedGeneration", Value: s.ObservedGeneration})
	errs = append(errs, check.Within(path, s.Replicas, "cannot be greater than status.replicas", labelled, ready, available)...)
	return append(errs, check.Within(path, s.ReadyReplicas, "cannot be greater than readyReplicas", available)...)
}
