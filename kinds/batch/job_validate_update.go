// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package batch

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

func validateJobUpdate(_ kinds.Request, new, old *batchv1.Job) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateWholeJob(new, old)
	errs = append(errs, validateCompletions(&new.Spec, &old.Spec, path)...)
	errs = append(errs, check.Immutable(new.Spec.Selector, old.Spec.Selector, path.Child("selector"))...)
	errs = append(errs, validateTemplateUpdate(new, old, path.Child("template"))...)
	errs = append(errs, check.Immutable(new.Spec.CompletionMode, old.Spec.CompletionMode, path.Child("completionMode"))...)
	errs = append(errs, check.Immutable(new.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy, path.Child("podFailurePolicy"))...)
	errs = append(errs, check.Immutable(new.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex, path.Child("backoffLimitPerIndex"))...)
	errs = append(errs, check.Immutable(new.Spec.ManagedBy, old.Spec.ManagedBy, path.Child("managedBy"))...)
	return append(errs, check.Immutable(new.Spec.SuccessPolicy, old.Spec.SuccessPolicy, path.Child("successPolicy"))...)
}

// validateCompletions lets an indexed job grow and shrink together with its parallelism; other jobs keep their size.
func validateCompletions(new, old *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if !indexed(new) {
		return check.Immutable(new.Completions, old.Completions, path.Child("completions"))
	}
	if new.Completions == nil || ptr.Equal(new.Completions, old.Completions) || *new.Completions == ptr.Deref(new.Parallelism, 0) {
		return nil
	}
	return field.ErrorList{field.Invalid(path.Child("completions"), new.Completions,
		fmt.Sprintf("can only be modified in tandem with %s", path.Child("completions").Root().Child("parallelism")))}
}

// validateTemplateUpdate keeps the template as it is, but for a suspended job with no pods: there, scheduling directives and
// container resources may change, so that a queueing controller can place the job before it releases it.
func validateTemplateUpdate(new, old *batchv1.Job, path *field.Path) field.ErrorList {
	was := old.Spec.Template.DeepCopy()
	if !idle(old) {
		return check.Immutable(&new.Spec.Template, was, path)
	}
	template := &new.Spec.Template
	was.Spec.Affinity = withNodeAffinity(was.Spec.Affinity, template.Spec.Affinity)
	was.Spec.NodeSelector = template.Spec.NodeSelector
	was.Spec.Tolerations = template.Spec.Tolerations
	was.Annotations = template.Annotations
	was.Labels = template.Labels
	was.Spec.SchedulingGates = template.Spec.SchedulingGates
	adoptResources(was.Spec.Containers, template.Spec.Containers)
	adoptResources(was.Spec.InitContainers, template.Spec.InitContainers)
	return check.Immutable(template.Spec, was.Spec, field.NewPath("spec").Child("template.spec"))
}

// idle reports whether a job is suspended and has no pods left from before.
func idle(j *batchv1.Job) bool {
	return ptr.Deref(j.Spec.Suspend, false) && j.Status.Active == 0 &&
		(j.Status.StartTime == nil || holds(j.Status.Conditions, batchv1.JobSuspended))
}

// withNodeAffinity returns was with the node affinity of now; was is the caller's own copy.
func withNodeAffinity(was, now *corev1.Affinity) *corev1.Affinity {
	var node *corev1.NodeAffinity
	if now != nil {
		node = now.NodeAffinity
	}
	if was == nil {
		if now == nil {
			return nil
		}
		return &corev1.Affinity{NodeAffinity: node}
	}
	was.NodeAffinity = node
	if now == nil && equal.Semantic(*was, corev1.Affinity{}) {
		return nil
	}
	return was
}

func adoptResources(was, now []corev1.Container) {
	if len(was) != len(now) {
		return
	}
	for i := range was {
		if was[i].Name == now[i].Name {
			was[i].Resources = now[i].Resources
		}
	}
}
