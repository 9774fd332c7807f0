// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apps

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/podspec"
)

// validateTemplate judges a pod template; old is nil on create.
func validateTemplate(template, old *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	return podspec.ValidateTemplate(template, podspec.TemplateOptions(old), path)
}

func validateClaimTemplates([]corev1.PersistentVolumeClaim, *field.Path) field.ErrorList { return nil }
