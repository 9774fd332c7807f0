// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package batch

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/check"
)

// Bounds of failure and success policies.
const (
	maxFailureRules      = 20
	maxExitCodes         = 255
	maxConditionPatterns = 20
	maxSuccessRules      = 20
	maxIndexesText       = 64 * 1024 // bytes
)

func validateFailurePolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	path = path.Child("rules")
	rules := spec.PodFailurePolicy.Rules
	var errs field.ErrorList
	if len(rules) > maxFailureRules {
		errs = append(errs, field.TooMany(path, len(rules), maxFailureRules))
	}
	containers := map[string]bool{}
	for _, list := range [][]corev1.Container{spec.Template.Spec.Containers, spec.Template.Spec.InitContainers} {
		for i := range list {
			containers[list[i].Name] = true
		}
	}
	for i := range rules {
		errs = append(errs, validateFailureRule(spec, &rules[i], path.Index(i), containers)...)
	}
	return errs
}

func validateFailureRule(spec *batchv1.JobSpec, rule *batchv1.PodFailurePolicyRule, path *field.Path, containers map[string]bool) field.ErrorList {
	actions := []batchv1.PodFailurePolicyAction{
		batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex,
		batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore,
	}
	errs := oneOf(rule.Action, actions, path.Child("action"))
	if rule.Action == batchv1.PodFailurePolicyActionFailIndex && spec.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Invalid(path.Child("action"), rule.Action, "requires the backoffLimitPerIndex to be set"))
	}
	codes, conditions := rule.OnExitCodes != nil, len(rule.OnPodConditions) > 0
	if codes {
		errs = append(errs, validateExitCodes(rule.OnExitCodes, path.Child("onExitCodes"), containers)...)
	}
	if conditions {
		errs = append(errs, validateConditionPatterns(rule.OnPodConditions, path.Child("onPodConditions"))...)
	}
	switch {
	case codes && conditions:
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
	case !codes && !conditions:
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
	}
	return errs
}

func validateConditionPatterns(patterns []batchv1.PodFailurePolicyOnPodConditionsPattern, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(patterns) > maxConditionPatterns {
		errs = append(errs, field.TooMany(path, len(patterns), maxConditionPatterns))
	}
	statuses := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
	for i, pattern := range patterns {
		errs = append(errs, check.QualifiedName(string(pattern.Type), path.Index(i).Child("type"))...)
		errs = append(errs, oneOf(pattern.Status, statuses, path.Index(i).Child("status"))...)
	}
	return errs
}

func validateExitCodes(codes *batchv1.PodFailurePolicyOnExitCodesRequirement, path *field.Path, containers map[string]bool) field.ErrorList {
	operators := []batchv1.PodFailurePolicyOnExitCodesOperator{batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn}
	errs := oneOf(codes.Operator, operators, path.Child("operator"))
	if codes.ContainerName != nil && !containers[*codes.ContainerName] {
		errs = append(errs, field.Invalid(path.Child("containerName"), *codes.ContainerName,
			"must be one of the container or initContainer names in the pod template"))
	}
	path = path.Child("values")
	switch n := len(codes.Values); {
	case n == 0:
		errs = append(errs, field.Invalid(path, codes.Values, "at least one value is required"))
	case n > maxExitCodes:
		errs = append(errs, field.TooMany(path, n, maxExitCodes))
	}
	ordered, seen := true, map[int32]bool{}
	for i, value := range codes.Values {
		if codes.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && value == 0 {
			errs = append(errs, field.Invalid(path.Index(i), value, "must not be 0 for the In operator"))
		}
		if seen[value] {
			errs = append(errs, field.Duplicate(path.Index(i), value))
		}
		seen[value] = true
		ordered = ordered && (i == 0 || codes.Values[i-1] <= value)
	}
	if !ordered {
		errs = append(errs, field.Invalid(path, codes.Values, "must be ordered"))
	}
	return errs
}

func validateSuccessPolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	path = path.Child("rules")
	rules := spec.SuccessPolicy.Rules
	var errs field.ErrorList
	if len(rules) == 0 {
		errs = append(errs, field.Required(path, "at least one rules must be specified when the successPolicy is specified"))
	}
	if len(rules) > maxSuccessRules {
		errs = append(errs, field.TooMany(path, len(rules), maxSuccessRules))
	}
	completions := int32(0)
	if spec.Completions != nil {
		completions = *spec.Completions
	}
	for i := range rules {
		errs = append(errs, validateSuccessRule(&rules[i], completions, path.Index(i))...)
	}
	return errs
}

func validateSuccessRule(rule *batchv1.SuccessPolicyRule, completions int32, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if rule.SucceededCount == nil && rule.SucceededIndexes == nil {
		errs = append(errs, field.Required(path, "at least one of succeededCount or succeededIndexes must be specified"))
	}
	var named int32
	if rule.SucceededIndexes != nil {
		at := path.Child("succeededIndexes")
		if len(*rule.SucceededIndexes) > maxIndexesText {
			errs = append(errs, field.TooLong(at, "", maxIndexesText))
		}
		intervals, err := parseIndexes(*rule.SucceededIndexes, completions)
		if err != nil {
			errs = append(errs, field.Invalid(at, *rule.SucceededIndexes, fmt.Sprintf("error parsing succeededIndexes: %v", err)))
		}
		named = total(intervals)
	}
	if rule.SucceededCount == nil {
		return errs
	}
	errs = append(errs, check.Counts(path, check.Optional("succeededCount", rule.SucceededCount))...)
	count, at := *rule.SucceededCount, path.Child("succeededCount")
	if count > completions {
		errs = append(errs, field.Invalid(at, count, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", completions)))
	}
	if rule.SucceededIndexes != nil && count > named {
		errs = append(errs, field.Invalid(at, count,
			fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", named)))
	}
	return errs
}

// oneOf judges an enumeration; an absent value names the valid ones.
func oneOf[T ~string](value T, allowed []T, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, fmt.Sprintf("valid values: %q", allowed))}
	}
	if slices.Contains(allowed, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, allowed)}
}
