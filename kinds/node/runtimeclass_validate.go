// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/podspec"
)

func validate(_ kinds.Request, c *nodev1.RuntimeClass) field.ErrorList {
	var errs field.ErrorList
	if c.Handler == "" {
		errs = append(errs, field.Required(field.NewPath("handler"), ""))
	} else {
		errs = append(errs, check.Label(c.Handler, field.NewPath("handler"))...)
	}
	if c.Overhead != nil {
		errs = append(errs, podspec.ValidateContainerResources(&corev1.ResourceRequirements{Limits: c.Overhead.PodFixed}, field.NewPath("overhead"))...)
	}
	if c.Scheduling != nil {
		path := field.NewPath("scheduling")
		errs = append(errs, metav1validation.ValidateLabels(c.Scheduling.NodeSelector, path.Child("nodeSelector"))...)
		errs = append(errs, validateTolerations(c.Scheduling.Tolerations, path.Child("tolerations"))...)
	}
	return errs
}

func validateUpdate(req kinds.Request, new, old *nodev1.RuntimeClass) field.ErrorList {
	return append(validate(req, new), check.Immutable(new.Handler, old.Handler, field.NewPath("handler"))...)
}

// validateTolerations refuses to name the same toleration twice, whatever its seconds.
func validateTolerations(tolerations []corev1.Toleration, path *field.Path) field.ErrorList {
	errs := podspec.ValidateTolerations(tolerations, podspec.Options{}, path)
	seen := map[corev1.Toleration]bool{}
	for i, t := range tolerations {

		key := corev1.Toleration{Key: t.Key, Operator: t.Operator, Value: t.Value, Effect: t.Effect}
		if seen[key] {
			errs = append(errs, field.Duplicate(path.Index(i), t))
		}
		seen[key] = true
	}
	return errs
}
