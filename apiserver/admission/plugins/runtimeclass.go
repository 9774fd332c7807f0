// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/internal/equal"
)

// runtimeClass applies a runtime class's overhead and scheduling to pods that name it.
type runtimeClass struct{ reader admission.Reader }

func (p runtimeClass) find(ctx context.Context, a *admission.Attributes, pod *corev1.Pod) (*nodev1.RuntimeClass, error) {
	if pod.Spec.RuntimeClassName == nil {
		return nil, nil // no class is the usual case
	}
	class, found, err := admission.GetAny[*nodev1.RuntimeClass](ctx, p.reader, schema.GroupResource{Group: nodev1.GroupName, Resource: "runtimeclasses"}, "", *pod.Spec.RuntimeClassName)
	if err == nil && !found {
		err = admission.Forbiddenf(a, "pod rejected: RuntimeClass %q not found", *pod.Spec.RuntimeClassName)
	}
	return class, err
}

// Admit implements admission.Mutator.
func (p runtimeClass) Admit(ctx context.Context, a *admission.Attributes) error {
	pod, ok := podOf(a)
	if !ok || a.Operation != admission.Create {
		return nil
	}
	class, err := p.find(ctx, a, pod)
	if err != nil || class == nil {
		return err
	}
	if class.Overhead != nil {
		if len(pod.Spec.Overhead) > 0 && !equal.Semantic(class.Overhead.PodFixed, pod.Spec.Overhead) {
			return admission.Forbiddenf(a, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
		}
		pod.Spec.Overhead = class.Overhead.PodFixed.DeepCopy()
	}
	if class.Scheduling == nil {
		return nil
	}
	for k, v := range class.Scheduling.NodeSelector {
		if have, ok := pod.Spec.NodeSelector[k]; ok && have != v {
			return admission.Forbidden(a, fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", k, v, k, have))
		}
		if pod.Spec.NodeSelector == nil {
			pod.Spec.NodeSelector = map[string]string{}
		}
		pod.Spec.NodeSelector[k] = v
	}
	for _, t := range class.Scheduling.Tolerations {
		if !slices.ContainsFunc(pod.Spec.Tolerations, func(h corev1.Toleration) bool { return equal.Semantic(h, t) }) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, *t.DeepCopy())
		}
	}
	return nil
}

// Validate implements admission.Validator.
func (p runtimeClass) Validate(ctx context.Context, a *admission.Attributes) error {
	pod, ok := podOf(a)
	if !ok || a.Operation != admission.Create {
		return nil
	}
	class, err := p.find(ctx, a, pod)
	if err != nil {
		return err
	}
	if class != nil && class.Overhead != nil {
		if !equal.Semantic(class.Overhead.PodFixed, pod.Spec.Overhead) {
			return admission.Forbiddenf(a, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
		}
		return nil
	}
	if pod.Spec.Overhead != nil {
		return admission.Forbiddenf(a, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
	}
	return nil
}
