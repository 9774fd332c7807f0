// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/component-helpers/nodedeclaredfeatures"
	"k8s.io/component-helpers/resource"

	"kogge.dev/kogge/apiserver/admission"
)

var nodes = schema.GroupResource{Resource: "nodes"}

// topologyLabels copies a node's zone and region to the pods that are bound to it.
type topologyLabels struct{ reader admission.Reader }

// Admit implements admission.Mutator.
func (p topologyLabels) Admit(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || !a.Is("", "pods", "", "binding") {
		return nil
	}
	switch obj := a.Object.(type) {
	case *corev1.Pod:
		if a.Subresource == "" && obj.Spec.NodeName != "" {
			return p.copyTo(ctx, &obj.ObjectMeta, obj.Spec.NodeName)
		}
	case *corev1.Binding:
		if obj.Target.Kind == "Node" || obj.Target.Kind == "" {
			return p.copyTo(ctx, &obj.ObjectMeta, obj.Target.Name)
		}
	}
	return nil
}

func (p topologyLabels) copyTo(ctx context.Context, to *metav1.ObjectMeta, name string) error {
	node, found, err := admission.Get[*corev1.Node](ctx, p.reader, nodes, "", name)
	if err != nil || !found {
		return err
	}
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion} {
		v, ok := node.Labels[key]
		if !ok {
			continue
		}
		if to.Labels == nil {
			to.Labels = map[string]string{}
		}
		to.Labels[key] = v
	}
	return nil
}

// Causes of refused resizes.
const (
	causeNodeCapacity metav1.CauseType = "NodeCapacity"
	causePlatform     metav1.CauseType = "UnsupportedPlatform"
)

// podResize refuses resizes that the pod's node can't ever hold.
type podResize struct{ reader admission.Reader }

// Validate implements admission.Validator.
func (p podResize) Validate(ctx context.Context, a *admission.Attributes) error {
	pod, ok1 := admission.Object[*corev1.Pod](a)
	old, ok2 := admission.Old[*corev1.Pod](a)
	if !ok1 || !ok2 || !a.Is("", "pods", "resize") || a.Operation != admission.Update || pod.Spec.NodeName == "" || old.Generation == pod.Generation {
		return nil
	}
	node, found, err := admission.GetAny[*corev1.Node](ctx, p.reader, nodes, "", pod.Spec.NodeName)
	if err != nil {
		return admission.Forbidden(a, err)
	}
	if !found {
		return admission.Forbiddenf(a, "node %q not found", pod.Spec.NodeName)
	}
	if os, ok := node.Labels[corev1.LabelOSStable]; ok && os != "linux" {
		return refuseResize(a, fmt.Errorf("pod resize is only supported on linux nodes, node %q is %q", node.Name, os), causePlatform)
	}
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	var lacking []string
	if cpu := requests[corev1.ResourceCPU]; cpu.Cmp(*node.Status.Allocatable.Cpu()) > 0 {
		lacking = append(lacking, fmt.Sprintf("cpu, requested: %d, allocatable: %d", cpu.MilliValue(), node.Status.Allocatable.Cpu().MilliValue()))
	}
	if mem := requests[corev1.ResourceMemory]; mem.Cmp(*node.Status.Allocatable.Memory()) > 0 {
		lacking = append(lacking, fmt.Sprintf("memory, requested: %d, allocatable: %d", mem.Value(), node.Status.Allocatable.Memory().Value()))
	}
	if len(lacking) > 0 {
		return refuseResize(a, fmt.Errorf("node didn't have enough allocatable resources: %s", strings.Join(lacking, "; ")), causeNodeCapacity)
	}
	return nil
}

func refuseResize(a *admission.Attributes, reason error, cause metav1.CauseType) error {
	err := admission.Forbidden(a, reason)
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
		status.ErrStatus.Details.Causes = append(status.ErrStatus.Details.Causes, metav1.StatusCause{Type: cause})
	}
	return err
}

// declaredFeatures refuses pod updates that need features which the pod's node does not declare.
type declaredFeatures struct {
	reader  admission.Reader
	version *version.Version
}

// Validate implements admission.Validator.
func (p declaredFeatures) Validate(ctx context.Context, a *admission.Attributes) error {
	pod, ok1 := admission.Object[*corev1.Pod](a)
	old, ok2 := admission.Old[*corev1.Pod](a)
	if !ok1 || !ok2 || !a.Is("", "pods", "", "resize") || a.Operation != admission.Update || pod.Spec.NodeName == "" || old.Generation == pod.Generation {
		return nil
	}
	framework := nodedeclaredfeatures.DefaultFramework
	needs, err := framework.InferForPodUpdate(
		&nodedeclaredfeatures.PodInfo{Spec: &old.Spec, Status: &old.Status},
		&nodedeclaredfeatures.PodInfo{Spec: &pod.Spec, Status: &pod.Status}, p.version,
	)
	if err != nil {
		return admission.Forbiddenf(a, "failed to infer pod capability requirements: %w", err)
	}
	if needs.IsEmpty() {
		return nil
	}
	node, found, err := admission.GetAny[*corev1.Node](ctx, p.reader, nodes, "", pod.Spec.NodeName)
	if err != nil {
		return admission.Forbiddenf(a, "failed to get node %q: %w", pod.Spec.NodeName, err)
	}
	if !found {
		return admission.Forbiddenf(a, "node %q not found", pod.Spec.NodeName)
	}
	result, err := framework.MatchNode(needs, node)
	if err != nil {
		return admission.Forbiddenf(a, "failed to match pod requirements against node %q: %w", node.Name, err)
	}
	if !result.IsMatch {
		return admission.Forbiddenf(a, "pod update requires features %s which are not available on node %q", strings.Join(result.UnsatisfiedRequirements, ", "), node.Name)
	}
	return nil
}
