// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/apiserver/admission"
)

// notReadySeconds is how long pods stay on a node that is not ready or unreachable, unless they say otherwise.
const notReadySeconds = 300

// defaultTolerations gives pods the two tolerations of node trouble.
type defaultTolerations struct{}

// Admit implements admission.Mutator.
func (defaultTolerations) Admit(_ context.Context, a *admission.Attributes) error {
	pod, ok := podOf(a)
	if !ok || a.Operation != admission.Create && a.Operation != admission.Update {
		return nil
	}
	notReady, unreachable := false, false
	for i := range pod.Spec.Tolerations {
		t := &pod.Spec.Tolerations[i]
		if t.Effect != corev1.TaintEffectNoExecute && t.Effect != "" {
			continue
		}
		notReady = notReady || t.Key == corev1.TaintNodeNotReady || t.Key == ""
		unreachable = unreachable || t.Key == corev1.TaintNodeUnreachable || t.Key == ""
	}
	add := func(key string) {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(notReadySeconds)),
		})
	}
	if !notReady {
		add(corev1.TaintNodeNotReady)
	}
	if !unreachable {
		add(corev1.TaintNodeUnreachable)
	}
	return nil
}

// taintNodes makes new nodes not ready until the node lifecycle controller has seen them.
type taintNodes struct{}

// Admit implements admission.Mutator.
func (taintNodes) Admit(_ context.Context, a *admission.Attributes) error {
	node, ok := admission.Object[*corev1.Node](a)
	if !ok || !a.Is("", "nodes") || a.Operation != admission.Create {
		return nil
	}
	for i := range node.Spec.Taints {
		if node.Spec.Taints[i].Key == corev1.TaintNodeNotReady && node.Spec.Taints[i].Effect == corev1.TaintEffectNoSchedule {
			return nil
		}
	}
	node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule})
	return nil
}
