// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/kinds"
)

var podsGVR = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// bindPod assigns a pod to a node, for pods/binding and for bindings.
func (e *Engine) bindPod(ctx context.Context, c *Call) (*Result, error) {
	binding, ok := c.Object.(*corev1.Binding)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a Binding object: %T", c.Object))
	}
	if err := checkNamespace(binding, c.Namespace); err != nil {
		return nil, err
	}
	if c.Name == "" {
		c.Name = binding.Name
	}
	if c.Name != binding.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Binding object")
	}
	if errs := validateBinding(binding); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	if tracked, ok := e.trackVirtual(ctx, c, binding).(*corev1.Binding); ok {
		binding = tracked
	}
	if err := e.admit(ctx, e.attributes(ctx, c, admission.Create, binding, nil)); err != nil {
		return nil, err
	}
	pods := *c
	pods.Target, pods.Subresource = e.Lookup(podsGVR), "binding"
	key := pods.Target.key(c.Namespace, c.Name)
	_, err := e.transact(ctx, &pods, key, func(_ context.Context, old kinds.Object) (*outcome, error) {
		if old == nil {
			return nil, apierrors.NewNotFound(podsGVR.GroupResource(), c.Name)
		}
		if err := bindingPreconditions(old.(*corev1.Pod), binding); err != nil {
			return nil, apierrors.NewConflict(podsGVR.GroupResource(), c.Name, err)
		}
		next, err := bound2node(old.(*corev1.Pod), binding)
		if err != nil {
			return nil, apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, c.Name, err)
		}
		return &outcome{obj: next}, nil
	})
	if err != nil {
		return nil, err
	}
	return &Result{Code: http.StatusCreated, Object: &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}}, nil
}

func validateBinding(b *corev1.Binding) field.ErrorList {
	var errs field.ErrorList
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		errs = append(errs, field.NotSupported(field.NewPath("target", "kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		errs = append(errs, field.Required(field.NewPath("target", "name"), ""))
	}
	return errs
}

// bindingPreconditions compares the pod with the one that a binding is for.
func bindingPreconditions(pod *corev1.Pod, b *corev1.Binding) error {
	switch {
	case b.UID != "" && b.UID != pod.UID:
		return otherUID(b.UID, pod.UID)
	case b.ResourceVersion != "" && b.ResourceVersion != pod.ResourceVersion:
		return fmt.Errorf("Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", b.ResourceVersion, pod.ResourceVersion) //nolint:staticcheck // Upstream's words.
	}
	return nil
}

// bound2node returns the pod as bound, or why it can't be.
func bound2node(old *corev1.Pod, b *corev1.Binding) (*corev1.Pod, error) {
	switch {
	case old.DeletionTimestamp != nil:
		return nil, fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", old.Name)
	case old.Spec.NodeName != "":
		return nil, fmt.Errorf("pod %v is already assigned to node %q", old.Name, old.Spec.NodeName)
	case len(old.Spec.SchedulingGates) > 0:
		return nil, fmt.Errorf("pod %v has non-empty .spec.schedulingGates", old.Name)
	}
	pod := old.DeepCopy()
	pod.Spec.NodeName = b.Target.Name
	pod.Status.NominatedNodeName = ""
	for k, v := range b.Annotations {
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		pod.Annotations[k] = v
	}
	for k, v := range b.Labels {
		if pod.Labels == nil {
			pod.Labels = map[string]string{}
		}
		pod.Labels[k] = v
	}
	setPodCondition(&pod.Status, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	return pod, nil
}

// setPodCondition adds or replaces a condition; the transition time moves only with the status.
func setPodCondition(status *corev1.PodStatus, c corev1.PodCondition) {
	c.LastTransitionTime = metav1.Now().Rfc3339Copy()
	for i := range status.Conditions {
		have := &status.Conditions[i]
		if have.Type != c.Type {
			continue
		}
		if have.Status == c.Status {
			c.LastTransitionTime = have.LastTransitionTime
		}
		*have = c
		return
	}
	status.Conditions = append(status.Conditions, c)
}

// errKeep ends a transaction's step without a write and without an error.
var errKeep = errors.New("keep")

// changePod rewrites a pod outside of its strategy.
func (e *Engine) changePod(ctx context.Context, c *Call, change func(pod *corev1.Pod) error) (*corev1.Pod, error) {
	pods := *c
	pods.Target, pods.Subresource = e.Lookup(podsGVR), ""
	w, err := e.transact(ctx, &pods, pods.Target.key(c.Namespace, c.Name), func(_ context.Context, old kinds.Object) (*outcome, error) {
		if old == nil {
			return nil, apierrors.NewNotFound(podsGVR.GroupResource(), c.Name)
		}
		next := old.(*corev1.Pod).DeepCopy()
		if err := change(next); errors.Is(err, errKeep) {
			return &outcome{keep: true}, nil
		} else if err != nil {
			return nil, err
		}
		return &outcome{obj: next}, nil
	})
	if err != nil {
		return nil, err
	}
	obj, err := w.object(c.Target)
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.Pod), nil
}
