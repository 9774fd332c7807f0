// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apps

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/podspec"
)

// atTemplate is where all workloads keep their pod template.
func atTemplate() *field.Path { return field.NewPath("spec", "template") }

// validateTemplate judges a pod template; old is nil on create.
func validateTemplate(template, old *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	return podspec.ValidateTemplate(template, podspec.TemplateOptions(old), path)
}

// dropTemplate clears what v1.36 has switched off, unless old uses it already; old is nil on create.
func dropTemplate(template, old *corev1.PodTemplateSpec) {
	if old == nil {
		podspec.DropDisabled(&template.Spec, nil)
		return
	}
	podspec.DropDisabled(&template.Spec, &old.Spec)
}

func validateClaimTemplates(claims []corev1.PersistentVolumeClaim, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range claims {
		errs = append(errs, podspec.ValidateClaimSpec(&claims[i].Spec, nil, path.Index(i).Child("spec"))...)
	}
	return errs
}
