// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package batch

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/podspec"
)

// Bounds of jobs; those with "High" apply above highCompletions indexes with a back-off limit per index.
const (
	maxIndexedParallelism = 100_000
	maxFailedIndexes      = 100_000
	highCompletions       = 100_000
	maxHighParallelism    = 10_000
	maxHighFailedIndexes  = 10_000
	maxManagedByLength    = 63
)

func validateJob(_ kinds.Request, j *batchv1.Job) field.ErrorList {
	return validateWholeJob(j, nil)
}

// validateWholeJob takes a nil old on create.
func validateWholeJob(j, old *batchv1.Job) field.ErrorList {
	errs := validateGeneratedSelector(j, old)
	var oldSpec *batchv1.JobSpec
	if old != nil {
		oldSpec = &old.Spec
	}
	errs = append(errs, validateSelectedSpec(&j.Spec, oldSpec, field.NewPath("spec"))...)
	if indexed(&j.Spec) && ptr.Deref(j.Spec.Completions, 0) > 0 {
		last := fmt.Sprintf("%s-%d", j.Name, *j.Spec.Completions-1)
		if len(utilvalidation.IsDNS1123Label(last)) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), j.Name, "will not able to create pod with invalid DNS label: "+last))
		}
	}
	return errs
}

// validateGeneratedSelector requires that a selector that the server makes is the one that it made. Jobs stored before the
// prefixed labels existed need not have them.
func validateGeneratedSelector(j, old *batchv1.Job) field.ErrorList {
	if ptr.Deref(j.Spec.ManualSelector, false) || j.Spec.Selector == nil {
		return nil
	}
	var errs field.ErrorList
	if j.UID == "" {
		errs = append(errs, field.Required(field.NewPath("metadata", "uid"), ""))
	}
	wanted := []struct{ key, value string }{{legacyControllerUID, string(j.UID)}, {legacyJobName, j.Name}}
	if old == nil || hasPrefixedLabels(old) {
		wanted = append(wanted, []struct{ key, value string }{
			{batchv1.ControllerUidLabel, string(j.UID)}, {batchv1.JobNameLabel, j.Name},
		}...)
	}
	expected := labels.Set{}
	for _, w := range wanted {
		expected[w.key] = w.value
		errs = append(errs, hasLabel(j.Spec.Template.Labels, w.key, w.value)...)
	}
	if selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !selector.Matches(expected) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

func hasPrefixedLabels(j *batchv1.Job) bool {
	_, name := j.Spec.Template.Labels[batchv1.JobNameLabel]
	_, uid := j.Spec.Template.Labels[batchv1.ControllerUidLabel]
	return name && uid
}

func hasLabel(have map[string]string, key, value string) field.ErrorList {
	path := field.NewPath("spec", "template", "metadata", "labels")
	got, found := have[key]
	switch {
	case !found:
		return field.ErrorList{field.Required(path.Key(key), fmt.Sprintf("must be '%s'", value))}
	case got != value:
		return field.ErrorList{field.Invalid(path.Key(key), have, fmt.Sprintf("must be '%s'", value))}
	}
	return nil
}

// validateSelectedSpec judges a spec with its selector, which cron jobs' templates don't have.
func validateSelectedSpec(spec, old *batchv1.JobSpec, path *field.Path) field.ErrorList {
	errs := validateSpec(spec, old, path)
	if spec.Selector == nil {
		errs = append(errs, field.Required(path.Child("selector"), ""))
	} else {
		var oldSelector *metav1.LabelSelector
		if old != nil {
			oldSelector = old.Selector
		}
		errs = append(errs, check.LenientSelector(spec.Selector, oldSelector, path.Child("selector"))...)
	}
	selector, err := metav1.LabelSelectorAsSelector(spec.Selector)
	if err == nil && !selector.Matches(labels.Set(spec.Template.Labels)) {
		errs = append(errs, field.Invalid(path.Child("template", "metadata", "labels"), spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	return errs
}

// validateSpec judges all of a spec but its selector.
func validateSpec(spec, old *batchv1.JobSpec, path *field.Path) field.ErrorList {
	errs := check.Counts(path,
		check.Optional("parallelism", spec.Parallelism),
		check.Optional("completions", spec.Completions),
		check.Count{Field: "activeDeadlineSeconds", Value: ptr.Deref(spec.ActiveDeadlineSeconds, 0)},
		check.Optional("backoffLimit", spec.BackoffLimit),
		check.Optional("ttlSecondsAfterFinished", spec.TTLSecondsAfterFinished),
		check.Optional("backoffLimitPerIndex", spec.BackoffLimitPerIndex),
		check.Optional("maxFailedIndexes", spec.MaxFailedIndexes),
	)
	if spec.MaxFailedIndexes != nil && spec.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(path.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if spec.ManagedBy != nil {
		errs = append(errs, utilvalidation.IsDomainPrefixedPath(path.Child("managedBy"), *spec.ManagedBy)...)
		if len(*spec.ManagedBy) > maxManagedByLength {
			errs = append(errs, field.TooLong(path.Child("managedBy"), "", maxManagedByLength))
		}
	}
	errs = append(errs, validateCompletionMode(spec, path)...)
	if spec.PodFailurePolicy != nil {
		errs = append(errs, validateFailurePolicy(spec, path.Child("podFailurePolicy"))...)
	}
	if spec.SuccessPolicy != nil {
		if indexed(spec) {
			errs = append(errs, validateSuccessPolicy(spec, path.Child("successPolicy"))...)
		} else {
			errs = append(errs, field.Invalid(path.Child("successPolicy"), *spec.SuccessPolicy, "requires indexed completion mode"))
		}
	}
	errs = append(errs, validateReplacementPolicy(spec, path.Child("podReplacementPolicy"))...)
	var oldTemplate *corev1.PodTemplateSpec
	if old != nil {
		oldTemplate = &old.Template
	}
	errs = append(errs, podspec.ValidateTemplate(&spec.Template, podspec.TemplateOptions(oldTemplate), path.Child("template"))...)
	return append(errs, validateRestartPolicy(spec, path.Child("template", "spec", "restartPolicy"))...)
}

func indexed(spec *batchv1.JobSpec) bool {
	return ptr.Deref(spec.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.IndexedCompletion
}

func validateCompletionMode(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	mode := ptr.Deref(spec.CompletionMode, batchv1.NonIndexedCompletion)
	switch mode {
	case batchv1.IndexedCompletion:
		return validateIndexed(spec, path)
	case batchv1.NonIndexedCompletion:
		if spec.BackoffLimitPerIndex != nil {
			errs = append(errs, field.Invalid(path.Child("backoffLimitPerIndex"), *spec.BackoffLimitPerIndex, "requires indexed completion mode"))
		}
		if spec.MaxFailedIndexes != nil {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *spec.MaxFailedIndexes, "requires indexed completion mode"))
		}
		return errs
	}
	return field.ErrorList{field.NotSupported(path.Child("completionMode"), spec.CompletionMode,
		[]batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion})}
}

func validateIndexed(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.Completions == nil {
		errs = append(errs, field.Required(path.Child("completions"), "when completion mode is Indexed"))
	}
	parallelism, failed := ptr.Deref(spec.Parallelism, 0), ptr.Deref(spec.MaxFailedIndexes, 0)
	if parallelism > maxIndexedParallelism {
		errs = append(errs, field.Invalid(path.Child("parallelism"), parallelism,
			fmt.Sprintf("must be less than or equal to %d when completion mode is Indexed", maxIndexedParallelism)))
	}
	if spec.Completions != nil && spec.MaxFailedIndexes != nil && failed > *spec.Completions {
		errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), failed, "must be less than or equal to completions"))
	}
	if failed > maxFailedIndexes {
		errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), failed, fmt.Sprintf("must be less than or equal to %d", maxFailedIndexes)))
	}
	if ptr.Deref(spec.Completions, 0) <= highCompletions || spec.BackoffLimitPerIndex == nil {
		return errs
	}
	const above = "must be less than or equal to %d when completions are above %d and used with backoff limit per index"
	if spec.MaxFailedIndexes == nil {
		errs = append(errs, field.Required(path.Child("maxFailedIndexes"), fmt.Sprintf("must be specified when completions is above %d", highCompletions)))
	}
	if parallelism > maxHighParallelism {
		errs = append(errs, field.Invalid(path.Child("parallelism"), parallelism, fmt.Sprintf(above, maxHighParallelism, highCompletions)))
	}
	if failed > maxHighFailedIndexes {
		errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), failed, fmt.Sprintf(above, maxHighFailedIndexes, highCompletions)))
	}
	return errs
}

func validateReplacementPolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if spec.PodReplacementPolicy == nil {
		return nil
	}
	allowed := []batchv1.PodReplacementPolicy{batchv1.Failed, batchv1.TerminatingOrFailed}
	if spec.PodFailurePolicy != nil {
		allowed = allowed[:1]
	}
	if slices.Contains(allowed, *spec.PodReplacementPolicy) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, *spec.PodReplacementPolicy, allowed)}
}

func validateRestartPolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	switch policy := spec.Template.Spec.RestartPolicy; policy {
	case corev1.RestartPolicyAlways, "":
		return field.ErrorList{field.Required(path, fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever))}
	case corev1.RestartPolicyNever:
		return nil
	case corev1.RestartPolicyOnFailure:
		if spec.PodFailurePolicy == nil {
			return nil
		}
		return field.ErrorList{field.Invalid(path, policy, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever))}
	default:
		return field.ErrorList{field.NotSupported(path, policy, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever})}
	}
}

// warnJob takes a nil old on create.
func warnJob(_ kinds.Request, new, old *batchv1.Job) []string {
	if old != nil {
		if new.Generation == old.Generation {
			return nil
		}
		return warnSpec(&new.Spec, field.NewPath("spec"))
	}
	return append(warnName(new.Name), warnSpec(&new.Spec, field.NewPath("spec"))...)
}

func warnSpec(spec *batchv1.JobSpec, path *field.Path) []string {
	var warnings []string
	if indexed(spec) && ptr.Deref(spec.Completions, 0) > highCompletions && ptr.Deref(spec.Parallelism, 0) > maxHighParallelism {
		warnings = append(warnings, path.String()+": In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "+
			"Kubernetes might not be able to track completedIndexes when a big number of indexes fail")
	}
	return append(warnings, podspec.TemplateWarnings(&spec.Template, nil, path.Child("template"))...)
}

// warnName warns of names that are good object names but bad beginnings of pod names.
func warnName(name string) []string {
	msgs := utilvalidation.IsDNS1123Label(name)
	if len(msgs) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", msgs)}
}
