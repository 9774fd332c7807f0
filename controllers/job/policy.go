// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package job

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// verdict is what the pod failure policy says about one failed pod.
type verdict struct {
	action batchv1.PodFailurePolicyAction // "" when no rule matches: count it
	// why is the message of a FailJob.
	why string
}

// judge finds the first rule that a failed pod matches.
func judge(policy *batchv1.PodFailurePolicy, pod *corev1.Pod) verdict {
	if policy == nil {
		return verdict{}
	}
	for i := range policy.Rules {
		rule := &policy.Rules[i]
		switch {
		case rule.OnExitCodes != nil:
			if name, code, ok := matchExitCode(rule.OnExitCodes, pod); ok {
				return verdict{rule.Action, fmt.Sprintf("Container %s for pod %s/%s failed with exit code %v matching %v rule at index %d",
					name, pod.Namespace, pod.Name, code, rule.Action, i)}
			}
		case len(rule.OnPodConditions) > 0:
			if matched, ok := matchCondition(rule.OnPodConditions, pod); ok {
				return verdict{rule.Action, fmt.Sprintf("Pod %s/%s has condition %v matching %v rule at index %d",
					pod.Namespace, pod.Name, matched, rule.Action, i)}
			}
		}
	}
	return verdict{}
}

func matchExitCode(rule *batchv1.PodFailurePolicyOnExitCodesRequirement, pod *corev1.Pod) (name string, code int32, ok bool) {
	for _, status := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses) {
		if rule.ContainerName != nil && *rule.ContainerName != status.Name {
			continue
		}
		ended := status.State.Terminated
		if ended == nil || ended.ExitCode == 0 {
			continue
		}
		if slices.Contains(rule.Values, ended.ExitCode) == (rule.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
			return status.Name, ended.ExitCode, true
		}
	}
	return "", 0, false
}

func matchCondition(patterns []batchv1.PodFailurePolicyOnPodConditionsPattern, pod *corev1.Pod) (corev1.PodConditionType, bool) {
	for _, c := range pod.Status.Conditions {
		for _, p := range patterns {
			want := p.Status
			if want == "" {
				want = corev1.ConditionTrue
			}
			if p.Type == c.Type && want == c.Status {
				return c.Type, true
			}
		}
	}
	return "", false
}

// successRule returns the first rule of the success policy that the succeeded indexes satisfy.
func successRule(policy *batchv1.SuccessPolicy, succeeded spans, completions int) (int, bool) {
	if policy == nil {
		return 0, false
	}
	for i := range policy.Rules {
		if satisfied(&policy.Rules[i], succeeded, completions) {
			return i, true
		}
	}
	return 0, false
}

// satisfied judges one rule: a count of all indexes, a count among those that it names, or all that it names.
func satisfied(rule *batchv1.SuccessPolicyRule, succeeded spans, completions int) bool {
	have, wanted := succeeded.count(), 0
	if rule.SucceededIndexes != nil {
		named := parseSpans(*rule.SucceededIndexes, completions)
		have, wanted = named.common(succeeded), named.count()
	}
	switch {
	case rule.SucceededCount != nil:
		return have >= int(*rule.SucceededCount)
	case rule.SucceededIndexes != nil:
		return have == wanted
	}
	return false
}
