// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"fmt"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/podspec"
)

const mismatch = "`selector` does not match template `labels`"

// warnName warns of names that are good object names but bad beginnings of pod names.
func warnName(name string) []string {
	msgs := utilvalidation.IsDNS1123Label(name)
	if len(msgs) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", msgs)}
}

// requireSelector judges a selector that must be there and must not be empty; noun names the kind that it is of.
func requireSelector(selector *metav1.LabelSelector, path *field.Path, noun string) field.ErrorList {
	if selector == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	errs := check.Selector(selector, path)
	if check.Empty(selector) {
		errs = append(errs, field.Invalid(path, selector, "empty selector is invalid for "+noun))
	}
	return errs
}

// matchLabels requires that a selector selects the template's own labels.
func matchLabels(selector labels.Selector, template *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	if selector.Empty() || selector.Matches(labels.Set(template.Labels)) {
		return nil
	}
	return field.ErrorList{field.Invalid(path.Child("metadata", "labels"), template.Labels, mismatch)}
}

// restartAlways requires what pods that a controller replaces need: that they restart for ever.
func restartAlways(template *corev1.PodTemplateSpec, path *field.Path, noun string) field.ErrorList {
	var errs field.ErrorList
	if template.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("spec", "restartPolicy"), template.Spec.RestartPolicy,
			[]corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if template.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+noun+" is not Supported"))
	}
	return errs
}

// templateGeneration reads the count of template changes that daemon sets carry in an annotation.
func templateGeneration(ds *appsv1.DaemonSet) int64 {
	n, err := strconv.ParseInt(ds.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// setTemplateGeneration writes that count; the annotations may be shared with old and are copied.
func setTemplateGeneration(ds *appsv1.DaemonSet, n int64) {
	annotations := make(map[string]string, len(ds.Annotations)+1)
	maps.Copy(annotations, ds.Annotations)
	annotations[appsv1.DeprecatedTemplateGeneration] = strconv.FormatInt(n, 10)
	ds.Annotations = annotations
}

// Warnings speak of a template on create, and on an update that changes the spec.

func warnDeployment(_ kinds.Request, new, old *appsv1.Deployment) []string {
	if old == nil {
		return append(warnName(new.Name), podspec.TemplateWarnings(&new.Spec.Template, nil, atTemplate())...)
	}
	if new.Generation == old.Generation {
		return nil
	}
	return podspec.TemplateWarnings(&new.Spec.Template, &old.Spec.Template, atTemplate())
}

func warnReplicaSet(_ kinds.Request, new, old *appsv1.ReplicaSet) []string {
	if old == nil {
		return append(warnName(new.Name), podspec.TemplateWarnings(&new.Spec.Template, nil, atTemplate())...)
	}
	if new.Generation == old.Generation {
		return nil
	}
	return podspec.TemplateWarnings(&new.Spec.Template, &old.Spec.Template, atTemplate())
}

// warnDaemonSet looks only at changes of the template itself.
func warnDaemonSet(_ kinds.Request, new, old *appsv1.DaemonSet) []string {
	if old == nil {
		return podspec.TemplateWarnings(&new.Spec.Template, nil, atTemplate())
	}
	if templateGeneration(new) == templateGeneration(old) {
		return nil
	}
	return podspec.TemplateWarnings(&new.Spec.Template, &old.Spec.Template, atTemplate())
}

func warnStatefulSet(_ kinds.Request, new, old *appsv1.StatefulSet) []string {
	var warnings []string
	switch {
	case old == nil:
		warnings = podspec.TemplateWarnings(&new.Spec.Template, nil, atTemplate())
	case new.Generation != old.Generation:
		warnings = podspec.TemplateWarnings(&new.Spec.Template, &old.Spec.Template, atTemplate())
	}
	for i := range new.Spec.VolumeClaimTemplates {
		path := field.NewPath("spec", "volumeClaimTemplates").Index(i)
		if old != nil {
			path = path.Child("Spec")
		}
		warnings = append(warnings, podspec.ClaimWarnings(&new.Spec.VolumeClaimTemplates[i].Spec, path)...)
	}
	if new.Spec.RevisionHistoryLimit != nil && *new.Spec.RevisionHistoryLimit < 0 {
		warnings = append(warnings, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
	}
	return warnings
}
