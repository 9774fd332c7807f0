// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
)

var priorityClasses = schema.GroupResource{Group: schedulingv1.GroupName, Resource: "priorityclasses"}

// priority resolves a pod's priority class to its number and preemption policy, and keeps the default class unique.
type priority struct{ reader admission.Reader }

// Admit implements admission.Mutator.
func (p priority) Admit(ctx context.Context, a *admission.Attributes) error {
	pod, ok := podOf(a)
	if !ok {
		return nil
	}
	switch a.Operation {
	case admission.Update:
		old, ok := admission.Old[*corev1.Pod](a)
		if !ok {
			return nil
		}
		if pod.Spec.Priority == nil {
			pod.Spec.Priority = copyOf(old.Spec.Priority)
		}
		if pod.Spec.PreemptionPolicy == nil {
			pod.Spec.PreemptionPolicy = copyOf(old.Spec.PreemptionPolicy)
		}
	case admission.Create:
		return p.resolve(ctx, a, pod)
	default:
	}
	return nil
}

func copyOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

func (p priority) resolve(ctx context.Context, a *admission.Attributes, pod *corev1.Pod) error {
	var value int32
	policy := new(corev1.PreemptLowerPriority)
	name := pod.Spec.PriorityClassName
	class, err := p.class(ctx, a, name)
	if err != nil {
		return err
	}
	if class != nil {
		name, value, policy = class.Name, class.Value, copyOf(class.PreemptionPolicy)
	}
	pod.Spec.PriorityClassName = name
	if pod.Spec.Priority != nil && *pod.Spec.Priority != value {
		return admission.Forbiddenf(a, "the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *pod.Spec.Priority, value)
	}
	pod.Spec.Priority = &value
	if policy == nil {
		return nil
	}
	if pod.Spec.PreemptionPolicy != nil && *pod.Spec.PreemptionPolicy != *policy {
		return admission.Forbiddenf(a, "the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *pod.Spec.PreemptionPolicy, *policy)
	}
	pod.Spec.PreemptionPolicy = policy
	return nil
}

// class returns the named class, the default class for an empty name, or nil when there is no default.
func (p priority) class(ctx context.Context, a *admission.Attributes, name string) (*schedulingv1.PriorityClass, error) {
	if name == "" {
		return p.defaultClass(ctx)
	}
	class, found, err := admission.GetAny[*schedulingv1.PriorityClass](ctx, p.reader, priorityClasses, "", name)
	if err != nil {
		return nil, fmt.Errorf("resolve PriorityClass %s: %w", name, err)
	}
	if !found {
		return nil, admission.Forbiddenf(a, "no PriorityClass with name %v was found", name)
	}
	return class, nil
}

// defaultClass returns the default class; of several (made at the same time) the lowest holds.
func (p priority) defaultClass(ctx context.Context) (*schedulingv1.PriorityClass, error) {
	list, err := admission.List[*schedulingv1.PriorityClass](ctx, p.reader, priorityClasses, "")
	if err != nil {
		return nil, err
	}
	var out *schedulingv1.PriorityClass
	for _, c := range list {
		if c.GlobalDefault && (out == nil || c.Value < out.Value) {
			out = c
		}
	}
	return out, nil
}

// Validate implements admission.Validator.
func (p priority) Validate(ctx context.Context, a *admission.Attributes) error {
	if !a.Is(schedulingv1.GroupName, "priorityclasses") || a.Operation != admission.Create && a.Operation != admission.Update {
		return nil
	}
	class, ok := admission.Object[*schedulingv1.PriorityClass](a)
	if !ok || !class.GlobalDefault {
		return nil
	}
	current, err := p.defaultClass(ctx)
	if err != nil {
		return err
	}
	if current != nil && (a.Operation == admission.Create || current.Name != class.Name) {
		return admission.Forbiddenf(a, "PriorityClass %v is already marked as default. Only one default can exist", current.Name)
	}
	return nil
}
