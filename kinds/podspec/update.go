// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"fmt"
	"math"
	"reflect"
	"slices"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/internal/equal"
)

// changeable is what an update of a pod may change, as clients are told.
const changeable = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`," +
	"`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

// ValidatePodUpdate judges a pod that is to replace old: a running pod is what it is, but for its images, its deadline,
// further tolerations and the gates that keep it from being scheduled. While those do, it may also be narrowed down to
// fewer nodes.
func ValidatePodUpdate(pod, old *corev1.Pod) field.ErrorList {
	opts := OptionsFor(old)
	at := field.NewPath("spec")
	errs := validateWholePod(pod, opts)
	errs = append(errs, validateAnnotationChange(pod.Annotations, old.Annotations, field.NewPath("metadata", "annotations"))...)
	for _, l := range []struct {
		name     string
		new, old []corev1.Container
	}{
		{"containers", pod.Spec.Containers, old.Spec.Containers},
		{"initContainers", pod.Spec.InitContainers, old.Spec.InitContainers},
	} {
		if len(l.new) != len(l.old) {
			return append(errs, field.Forbidden(at.Child(l.name), "pod updates may not add or remove containers"))
		}
	}
	bad, stop := validateDeadline(pod.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds, at.Child("activeDeadlineSeconds"))
	errs = append(errs, bad...)
	if stop {
		return errs
	}
	errs = append(errs, validateTolerationChange(pod.Spec.Tolerations, old.Spec.Tolerations, opts, at.Child("tolerations"))...)
	errs = append(errs, validateGateChange(pod.Spec.SchedulingGates, old.Spec.SchedulingGates, at.Child("schedulingGates"))...)
	if equal.Semantic(&pod.Spec, &old.Spec) {
		return errs
	}
	rest, bad := withoutChangeable(pod, old, at)
	errs = append(errs, bad...)
	if !equal.Semantic(rest, &old.Spec) {
		errs = append(errs, field.Forbidden(at, fmt.Sprintf("pod updates may not change fields other than %s\n%v", changeable, cmp.Diff(&old.Spec, rest))))
	}
	return errs
}

// withoutChangeable returns pod's spec with everything that may be changed set back to what it was. It judges the changes
// that only a gated pod admits.
func withoutChangeable(pod, old *corev1.Pod, at *field.Path) (*corev1.PodSpec, field.ErrorList) {
	spec, before := pod.Spec.DeepCopy(), &old.Spec
	for i := range spec.Containers {
		spec.Containers[i].Image = before.Containers[i].Image
	}
	for i := range spec.InitContainers {
		spec.InitContainers[i].Image = before.InitContainers[i].Image
	}
	spec.ActiveDeadlineSeconds = before.ActiveDeadlineSeconds
	spec.SchedulingGates = before.SchedulingGates
	spec.Tolerations = before.Tolerations
	if seconds := before.TerminationGracePeriodSeconds; seconds != nil && *seconds < 0 && ptr.Deref(spec.TerminationGracePeriodSeconds, 0) == 1 {
		spec.TerminationGracePeriodSeconds = seconds
	}
	if len(before.SchedulingGates) == 0 {
		return spec, nil
	}
	var errs field.ErrorList
	for key, value := range before.NodeSelector {
		if now, ok := spec.NodeSelector[key]; !ok || now != value {
			errs = append(errs, field.Invalid(at.Child("nodeSelector"), spec.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)"))
			break
		}
	}
	spec.NodeSelector = before.NodeSelector
	errs = append(errs, validateNodeAffinityChange(nodeAffinityOf(spec), nodeAffinityOf(before), at.Child("affinity", "nodeAffinity"))...)
	resetNodeAffinity(spec, before)
	return spec, errs
}

// resetNodeAffinity gives spec the node affinity of before. An affinity that holds nothing else then is the same as none.
func resetNodeAffinity(spec, before *corev1.PodSpec) {
	affinity := nodeAffinityOf(before)
	if spec.Affinity == nil {
		if affinity != nil {
			spec.Affinity = &corev1.Affinity{NodeAffinity: affinity}
		}
		return
	}
	if equal.Semantic(spec.Affinity.NodeAffinity, affinity) {
		return
	}
	spec.Affinity.NodeAffinity = affinity
	if before.Affinity == nil && *spec.Affinity == (corev1.Affinity{}) {
		spec.Affinity = nil
	}
}

func nodeAffinityOf(spec *corev1.PodSpec) *corev1.NodeAffinity {
	if spec.Affinity == nil {
		return nil
	}
	return spec.Affinity.NodeAffinity
}

// validateNodeAffinityChange lets required terms be narrowed: a node must meet one of the terms, and all of its requirements.
func validateNodeAffinityChange(affinity, old *corev1.NodeAffinity, at *field.Path) field.ErrorList {
	terms := func(a *corev1.NodeAffinity) []corev1.NodeSelectorTerm {
		if a == nil || a.RequiredDuringSchedulingIgnoredDuringExecution == nil {
			return nil
		}
		return a.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	}
	before, now := terms(old), terms(affinity)
	path := at.Child(ruleRequired, "nodeSelectorTerms")
	if len(before) == 0 {
		return nil
	}
	if len(before) != len(now) {
		return field.ErrorList{field.Invalid(path, now, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")}
	}
	var errs field.ErrorList
	for i := range before {
		wasEmpty := len(before[i].MatchExpressions)+len(before[i].MatchFields) == 0
		isEmpty := len(now[i].MatchExpressions)+len(now[i].MatchFields) == 0
		if wasEmpty && !isEmpty || !extends(now[i].MatchExpressions, before[i].MatchExpressions) || !extends(now[i].MatchFields, before[i].MatchFields) {
			errs = append(errs, field.Invalid(path.Index(i), now[i], "only additions are allowed (no mutations or deletions)"))
		}
	}
	return errs
}

// extends reports whether list begins with all of old.
func extends(list, old []corev1.NodeSelectorRequirement) bool {
	return len(old) == 0 || len(list) >= len(old) && equal.Semantic(list[:len(old)], old)
}

// validateDeadline lets a deadline be set or drawn closer. It reports whether the rest need not be judged.
func validateDeadline(seconds, old *int64, at *field.Path) (errs field.ErrorList, stop bool) {
	switch {
	case seconds == nil && old != nil:
		return field.ErrorList{field.Invalid(at, seconds, "must not update from a positive integer to nil value")}, false
	case seconds == nil:
		return nil, false
	case *seconds < 0 || *seconds > math.MaxInt32:
		return field.ErrorList{field.Invalid(at, *seconds, validation.InclusiveRangeError(0, math.MaxInt32))}, true
	case old != nil && *old < *seconds:
		return field.ErrorList{field.Invalid(at, *seconds, "must be less than or equal to previous value")}, true
	}
	return nil, false
}

// validateTolerationChange lets tolerations be added, and how long they last be changed.
func validateTolerationChange(tolerations, old []corev1.Toleration, opts Options, at *field.Path) field.ErrorList {
	for _, before := range old {
		if !slices.ContainsFunc(tolerations, func(now corev1.Toleration) bool {
			now.TolerationSeconds = before.TolerationSeconds
			return reflect.DeepEqual(now, before)
		}) {
			return field.ErrorList{field.Forbidden(at, "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return ValidateTolerations(tolerations, opts, at)
}

func validateGateChange(gates, old []corev1.PodSchedulingGate, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, gate := range gates {
		if !slices.Contains(old, gate) {
			errs = append(errs, field.Forbidden(at.Index(i).Child("name"), fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", gate.Name)))
		}
	}
	return errs
}

// ValidateEphemeralContainers judges an update of a pod's ephemeral containers: they come and stay.
func ValidateEphemeralContainers(pod, old *corev1.Pod) field.ErrorList {
	if _, static := old.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers")}
	}
	errs := validateWholePod(pod, OptionsFor(old))
	errs = append(errs, validateAnnotationChange(pod.Annotations, old.Annotations, field.NewPath("metadata", "annotations"))...)
	at := field.NewPath("spec", "ephemeralContainers")
	for _, before := range old.Spec.EphemeralContainers {
		i := slices.IndexFunc(pod.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == before.Name })
		if i < 0 {
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", before.Name)))
		} else if now := pod.Spec.EphemeralContainers[i]; !equal.Semantic(before, now) {
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", before.Name, cmp.Diff(before, now))))
		}
	}
	return errs
}
