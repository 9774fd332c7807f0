// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"fmt"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kubelet/pod"
)

// downwardChanged reports whether something changed that a pod's volumes may show.
func downwardChanged(a, b *corev1.Pod) bool {
	return !reflect.DeepEqual(a.Labels, b.Labels) || !reflect.DeepEqual(a.Annotations, b.Annotations) ||
		!equal.Semantic(resourcesOf(a), resourcesOf(b))
}

func resourcesOf(p *corev1.Pod) []corev1.ResourceRequirements {
	var out []corev1.ResourceRequirements
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			out = append(out, list[i].Resources)
		}
	}
	return out
}

// allocate decides whether the node grants the resources of a changed specification. It returns the pod as the node runs it:
// with the new resources, or with the old ones while the new ones have to wait.
func (k *Kubelet) allocate(w *worker, old, p *corev1.Pod) *corev1.Pod {
	if equal.Semantic(resourcesOf(old), resourcesOf(p)) {
		return p
	}
	w.wanted = nil
	reason, message := k.judgeResize(w, p)
	if reason == "" {
		w.machine.SetResize(resizing())
		return p
	}
	w.wanted = p
	w.machine.SetResize([]corev1.PodCondition{{
		Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: reason, Message: message,
	}})
	kept := p.DeepCopy()
	for _, pair := range [][2][]corev1.Container{{kept.Spec.InitContainers, old.Spec.InitContainers}, {kept.Spec.Containers, old.Spec.Containers}} {
		for i := range pair[0] {
			if i < len(pair[1]) {
				pair[0][i].Resources = pair[1][i].Resources
			}
		}
	}
	return kept
}

// judgeResize returns why a changed pod can't have its resources: never (Infeasible) or not now (Deferred).
func (k *Kubelet) judgeResize(w *worker, p *corev1.Pod) (reason, message string) {
	if w.static {
		return corev1.PodReasonInfeasible, "In-place resize of static-pods is not supported"
	}
	if end := k.fits(p, nil); end != nil {
		return corev1.PodReasonInfeasible, end.Message
	}
	k.mu.Lock()
	others := k.activeLocked(w)
	k.mu.Unlock()
	if end := k.fits(p, others); end != nil {
		return corev1.PodReasonDeferred, end.Message
	}
	return "", ""
}

func resizing() []corev1.PodCondition {
	return []corev1.PodCondition{{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue}}
}

// reconsiderResize tries a deferred resize again. It runs on the worker's goroutine.
func (w *worker) reconsiderResize() {
	if w.wanted == nil || w.machine.Stage() != pod.Syncing {
		return
	}
	if reason, _ := w.k.judgeResize(w, w.wanted); reason != "" {
		return
	}
	p := w.wanted
	w.wanted = nil
	w.machine.SetResize(resizing())
	w.machine.SetPod(p)
}

// resize gives a running container its new resources, the pod's cgroup first if it grows and last if it shrinks.
func (k *Kubelet) resize(ctx context.Context, w *worker, p *corev1.Pod, a pod.Action) error {
	r := k.limits().Container(p, a.Container, w.qos)
	if err := k.cgroups.Widen(p, w.qos); err != nil {
		return err
	}
	_, err := k.config.Runtime.Containers.UpdateContainerResources(ctx, &runtimeapi.UpdateContainerResourcesRequest{ContainerId: a.ID, Linux: r})
	if err != nil {
		return fmt.Errorf("resize container %s: %w", a.Container.Name, err)
	}
	k.narrow(w, p)
	return nil
}

// narrow gives the pod's cgroup the bounds of its specification again. The kernel refuses while another container of the pod
// still has more; the last one to change then succeeds.
func (k *Kubelet) narrow(w *worker, p *corev1.Pod) {
	if err := k.cgroups.Ensure(p, w.qos); err != nil {
		w.log.Debug("pod cgroup keeps its wider bounds for now", "err", err)
	}
}
