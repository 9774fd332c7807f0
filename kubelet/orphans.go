// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/kubelet/pod"
	"kogge.dev/kogge/kubelet/render"
)

// adoptOrphans ends pods that the runtime or the disk holds and no source knows.
func (k *Kubelet) adoptOrphans(ctx context.Context) error {
	known := map[types.UID]*corev1.Pod{}
	sandboxes, err := k.config.Runtime.Containers.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	containers, err := k.config.Runtime.Containers.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	if err != nil {
		return err
	}
	for _, s := range sandboxes.GetItems() {
		if uid := types.UID(s.GetLabels()[render.LabelPodUID]); uid != "" {
			known[uid] = render.Orphan(s.GetLabels(), nil, s.GetAnnotations())
		}
	}
	for _, c := range containers.GetContainers() {
		uid := types.UID(c.GetLabels()[render.LabelPodUID])
		if uid == "" {
			continue
		}
		p := render.Orphan(c.GetLabels(), c.GetAnnotations(), nil)
		if old := known[uid]; old != nil {
			p.Spec.Containers = old.Spec.Containers
		}
		if spec, _ := pod.Find(p, c.GetMetadata().GetName()); spec == nil {
			p.Spec.Containers = append(p.Spec.Containers, render.OrphanContainer(c.GetLabels(), c.GetAnnotations()))
		}
		known[uid] = p
	}
	if dirs, err := os.ReadDir(filepath.Join(k.config.Root, "pods")); err == nil {
		for _, d := range dirs {
			if uid := types.UID(d.Name()); known[uid] == nil {
				known[uid] = nameless(uid)
			}
		}
	}
	for _, uid := range k.cgroups.Pods() {
		if known[uid] == nil {
			known[uid] = nameless(uid)
		}
	}
	for _, uid := range append(k.claims.Pods(), k.devices.Pods()...) {
		if known[uid] == nil {
			known[uid] = nameless(uid)
		}
	}
	for uid, p := range known {
		k.endOrphan(ctx, uid, p)
	}
	return nil
}

// nameless stands for a pod of which only the uid is left.
func nameless(uid types.UID) *corev1.Pod {
	p := &corev1.Pod{}
	p.UID, p.Name, p.Namespace = uid, string(uid), "orphan"
	return p
}

func (k *Kubelet) endOrphan(ctx context.Context, uid types.UID, p *corev1.Pod) {
	k.mu.Lock()
	if k.workers[uid] != nil {
		k.mu.Unlock()
		return
	}
	w := k.newWorker(ctx, p, true) // like a static pod: there is no object to report to
	w.reporter.gone = true
	k.workers[uid] = w
	k.mu.Unlock()
	k.log.Info("ending a pod that no source knows", "object", p.Namespace+"/"+p.Name)
	w.machine.Remove()
	k.startWorker(w)
}
