// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/podspec"
	"kogge.dev/kogge/rules/qos"
)

// createPod gives a pod its first status. The class of service that its requests and limits make is fixed from here on.
func createPod(req kinds.Request, p *corev1.Pod) {
	p.Generation = 1
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: qos.Compute(p)}
	podspec.DropDisabled(&p.Spec, nil)
	if len(p.Spec.SchedulingGates) > 0 {
		p.Status.Conditions = []corev1.PodCondition{{
			Type:               corev1.PodScheduled,
			Status:             corev1.ConditionFalse,
			LastTransitionTime: req.Now,
			Reason:             corev1.PodReasonSchedulingGated,
			Message:            "Scheduling is blocked due to non-empty scheduling gates",
		}}
	}
	podspec.MergeMatchLabelKeys(p)
	for _, name := range podspec.TakeAppArmorAnnotations(p) {
		if req.Warn != nil {
			req.Warn(fmt.Sprintf("metadata.annotations[%s%s]: deprecated since v1.30; use the \"appArmorProfile\" field instead",
				corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix, name))
		}
	}
}

func preparePod(_ kinds.Request, new, old *corev1.Pod) {
	new.Status = old.Status
	podspec.DropDisabled(&new.Spec, &old.Spec)
	kinds.RaiseGeneration(new, old, &new.Spec, &old.Spec)
}

// preparePodStatus keeps from the kubelet's hands what it does not own: owners, deletion and the class of service.
func preparePodStatus(_ kinds.Request, new, old *corev1.Pod) {
	new.Spec = old.Spec
	new.DeletionTimestamp = old.DeletionTimestamp
	new.OwnerReferences = old.OwnerReferences
	if new.Status.QOSClass == "" {
		new.Status.QOSClass = old.Status.QOSClass
	}
	keepObservedGenerations(&new.Status, &old.Status)
	podspec.DropDisabledStatus(&new.Status, &old.Status)
}

// keepObservedGenerations restores observed generations that a client of an older version left out. Conditions of the same
// type, which are allowed, are matched in order.
func keepObservedGenerations(status, old *corev1.PodStatus) {
	if status.ObservedGeneration == 0 {
		status.ObservedGeneration = old.ObservedGeneration
	}
	had := map[corev1.PodConditionType][]int64{}
	for _, c := range old.Conditions {
		had[c.Type] = append(had[c.Type], c.ObservedGeneration)
	}
	for i := range status.Conditions {
		c := &status.Conditions[i]
		generations := had[c.Type]
		if len(generations) == 0 {
			continue
		}
		had[c.Type] = generations[1:]
		if c.ObservedGeneration == 0 {
			c.ObservedGeneration = generations[0]
		}
	}
}

func prepareEphemeralContainers(_ kinds.Request, new, old *corev1.Pod) {
	added := new.Spec.EphemeralContainers
	new.Spec = old.Spec
	new.Spec.EphemeralContainers = added
	new.Status = old.Status
	metav1.ResetObjectMetaForStatus(&new.ObjectMeta, &old.ObjectMeta)
	// The drop changes containers in place: it must not reach into old.
	new.Spec = *new.Spec.DeepCopy()
	podspec.DropDisabled(&new.Spec, &old.Spec)
	kinds.RaiseGeneration(new, old, &new.Spec, &old.Spec)
}

// prepareResize keeps of a change only resources and resize policies. A list in which containers were added, removed or
// renamed it keeps as it is, for validation to refuse.
func prepareResize(_ kinds.Request, new, old *corev1.Pod) {
	if len(new.Spec.Containers) == len(old.Spec.Containers) && len(new.Spec.InitContainers) == len(old.Spec.InitContainers) {
		spec := *old.Spec.DeepCopy()
		spec.Resources = new.Spec.Resources
		spec.Containers = resized(new.Spec.Containers, spec.Containers)
		spec.InitContainers = resized(new.Spec.InitContainers, spec.InitContainers)
		new.Spec = spec
		new.Status = old.Status
		metav1.ResetObjectMetaForStatus(&new.ObjectMeta, &old.ObjectMeta)
	}
	podspec.DropDisabled(&new.Spec, &old.Spec)
	kinds.RaiseGeneration(new, old, &new.Spec, &old.Spec)
}

// resized gives copies of the old containers the new ones' resources.
func resized(new, copies []corev1.Container) []corev1.Container {
	if !slices.EqualFunc(new, copies, func(a, b corev1.Container) bool { return a.Name == b.Name }) {
		return new
	}
	for i := range copies {
		copies[i].Resources = new[i].Resources
		copies[i].ResizePolicy = new[i].ResizePolicy
	}
	return copies
}
