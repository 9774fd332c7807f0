// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/cri"
	"kogge.dev/kogge/kubelet/pod"
	"kogge.dev/kogge/kubelet/render"
	"kogge.dev/kogge/kubelet/volumes"
)

// errHeld is why nothing is started on a node that is being taken down.
var errHeld = errors.New("the node is being taken down")

// do carries out one action of a pod's machine.
func (k *Kubelet) do(ctx context.Context, w *worker, p *corev1.Pod, a pod.Action) pod.Outcome {
	switch a.Verb {
	case pod.Prepare:
		return failed(k.prepare(w.starts, w, p))
	case pod.CreateSandbox:
		return failed(k.createSandbox(w.starts, w, p, a))
	case pod.StopSandbox:
		return failed(k.stopSandbox(ctx, a.ID))
	case pod.RemoveSandbox:
		return failed(k.removeSandbox(ctx, a.ID))
	case pod.StartContainer:
		return k.startContainer(ctx, w, p, a)
	case pod.PreStop:
		k.preStop(ctx, w, p, a)
		return pod.Outcome{}
	case pod.StopContainer:
		return failed(k.stopContainer(ctx, a.ID, a.Grace))
	case pod.RemoveContainer:
		return failed(k.removeContainer(ctx, a.ID))
	case pod.Resize:
		return failed(k.resize(ctx, w, p, a))
	case pod.Release:
		return failed(k.release(ctx, w))
	case pod.Forget:
	}
	return pod.Outcome{}
}

// held reports whether nothing is to be started. It is asked last before the runtime is: pulling an image may have taken minutes.
func (k *Kubelet) held() bool { return k.config.Held != nil && k.config.Held() }

func failed(err error) pod.Outcome { return pod.Outcome{Err: err} }

func (k *Kubelet) podDir(uid types.UID) string {
	return filepath.Join(k.config.Root, "pods", string(uid))
}

// prepare makes folders, cgroup and volumes.
func (k *Kubelet) prepare(ctx context.Context, w *worker, p *corev1.Pod) error {
	for _, dir := range []string{k.podDir(p.UID), filepath.Join(k.podDir(p.UID), "volumes"), filepath.Join(k.podDir(p.UID), "plugins")} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("make pod folder: %w", err)
		}
	}
	if err := os.MkdirAll(render.LogDirectory(k.config.PodLogs, p), 0o755); err != nil {
		return fmt.Errorf("make log folder: %w", err)
	}
	if err := k.cgroups.Ensure(p, w.qos); err != nil {
		w.event(p, "", corev1.EventTypeWarning, "FailedToCreateContainer", fmt.Sprintf("unable to ensure pod container exists: %v", err))
		return err
	}
	if err := k.allocateDevices(ctx, w, p); err != nil {
		return err
	}
	next, err := k.volumes.Mount(ctx, p)
	if err != nil {
		if ctx.Err() == nil {
			k.reportMountErrors(w, p, err)
		}
		return err
	}
	w.post(func() { w.refresh = earliest(w.refresh, next) })
	if err := k.claims.Prepare(ctx, p); err != nil {
		err = fmt.Errorf("prepare dynamic resources: %w", err)
		if ctx.Err() == nil {
			w.event(p, "", corev1.EventTypeWarning, "FailedPrepareDynamicResources", fmt.Sprintf("Failed to prepare dynamic resources: %v", err))
		}
		return err
	}
	return nil
}

// reportMountErrors makes one event for each volume that failed.
func (k *Kubelet) reportMountErrors(w *worker, p *corev1.Pod, err error) {
	var joined interface{ Unwrap() []error }
	list := []error{err}
	if errors.As(err, &joined) {
		list = joined.Unwrap()
	}
	for _, e := range list {
		if one, ok := errors.AsType[*volumes.Error](e); ok {
			w.event(p, "", corev1.EventTypeWarning, "FailedMount", one.Error())
		}
	}
}

// sandboxGrace is how long a sandbox that is being made is waited for once its pod goes or the kubelet ends, so that it can be removed in order. Of one that is
// given up containerd may forget the shim, which stays then.
const sandboxGrace = 30 * time.Second

// outlast returns a context that ends so long after ctx, or with end.
func outlast(ctx context.Context, by time.Duration) (longer context.Context, end context.CancelFunc) {
	longer, end = context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		select {
		case <-time.After(by):
			end()
		case <-longer.Done():
		}
	})
	return longer, end
}

func (k *Kubelet) createSandbox(ctx context.Context, w *worker, p *corev1.Pod, a pod.Action) error {
	if !p.Spec.HostNetwork {
		if message := k.status.networkNotReady(ctx); message != "" {
			w.event(p, "", corev1.EventTypeWarning, "NetworkNotReady", "network is not ready: "+message)
			return fmt.Errorf("network is not ready: %s", message)
		}
	}
	config, err := k.sandboxConfig(w, p, uint32(a.Attempt))
	if k.held() {
		return errHeld
	}
	if err == nil {
		var handler string
		if handler, err = k.runtimeHandler(p); err == nil {
			making, end := outlast(ctx, sandboxGrace)
			_, err = k.config.Runtime.Containers.RunPodSandbox(making, &runtimeapi.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
			end()
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			w.event(p, "", corev1.EventTypeWarning, "FailedCreatePodSandBox", fmt.Sprintf("Failed to create pod sandbox: %v", err))
		}
		return fmt.Errorf("create sandbox: %w", err)
	}
	return nil
}

func (k *Kubelet) sandboxConfig(w *worker, p *corev1.Pod, attempt uint32) (*runtimeapi.PodSandboxConfig, error) {
	dns, notes, err := k.resolver().Pod(p)
	if err != nil {
		return nil, err
	}
	for _, note := range notes {
		reason := "DNSConfigForming"
		if strings.HasPrefix(note, "pod:") {
			reason = "MissingClusterDNS"
		}
		w.event(p, "", corev1.EventTypeWarning, reason, note)
	}
	users, err := k.userNamespace(p)
	if err != nil {
		return nil, err
	}
	s := render.Sandbox{
		Users: users, Pod: p, Attempt: attempt, LogDirectory: render.LogDirectory(k.config.PodLogs, p), CgroupParent: k.cgroups.Parent(p.UID, w.qos), DNS: dns,
		ClusterDomain: k.config.Settings.ClusterDomain,
	}
	if len(p.Spec.Overhead) > 0 {
		s.Overhead = &runtimeapi.LinuxContainerResources{
			CpuPeriod: k.limits().Period, CpuQuota: render.Quota(p.Spec.Overhead.Cpu().MilliValue(), k.limits().Period),
			CpuShares: render.Shares(p.Spec.Overhead.Cpu().MilliValue()), MemoryLimitInBytes: p.Spec.Overhead.Memory().Value(),
		}
	}
	return s.Config()
}

func (k *Kubelet) resolver() render.Resolver {
	r := render.Resolver{ClusterDNS: k.config.Settings.ClusterDNS, ClusterDomain: k.config.Settings.ClusterDomain, HostIP: k.hostIPs[0]}
	if path := *k.config.Settings.ResolverConfig; path != "" {
		if data, err := os.ReadFile(path); err == nil {
			r.Host = render.ParseResolvConf(string(data))
		}
	}
	return r
}

// runtimeHandler returns the handler of the pod's runtime class; empty is the default.
func (k *Kubelet) runtimeHandler(p *corev1.Pod) (string, error) {
	name := p.Spec.RuntimeClassName
	if name == nil || *name == "" {
		return "", nil
	}
	if k.client == nil {
		return "", fmt.Errorf("failed to get RuntimeClass %s: this node has no API server", *name)
	}
	class, ok := k.classes.Get("", *name)
	if !ok {
		return "", fmt.Errorf("failed to get RuntimeClass %s: runtimeclass.node.k8s.io %q not found", *name, *name)
	}
	return class.Handler, nil
}

// recursiveReadOnly reports whether the pod's runtime handler can mount recursively read-only.
func (k *Kubelet) recursiveReadOnly(p *corev1.Pod) bool {
	handler, err := k.runtimeHandler(p)
	return err == nil && k.features[handler].GetRecursiveReadOnlyMounts()
}

func (k *Kubelet) limits() render.Limits {
	s := &k.config.Settings
	return render.Limits{
		Quota: *s.CPUCFSQuota, Period: s.CPUCFSQuotaPeriod.Microseconds(), MemoryCapacity: int64(k.machine.memory), Unified: k.cgroups.Unified(),
		SingleProcessOOMKill: s.SingleProcessOOMKill != nil && *s.SingleProcessOOMKill,
	}
}

func (k *Kubelet) stopSandbox(ctx context.Context, id string) error {
	_, err := k.config.Runtime.Containers.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: id})
	if cri.IsNotFound(err) {
		return nil
	}
	return err
}

func (k *Kubelet) removeSandbox(ctx context.Context, id string) error {
	if err := k.stopSandbox(ctx, id); err != nil {
		return err
	}
	_, err := k.config.Runtime.Containers.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id})
	if cri.IsNotFound(err) {
		return nil
	}
	return err
}

func (k *Kubelet) stopContainer(ctx context.Context, id string, grace time.Duration) error {
	_, err := k.config.Runtime.Containers.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: int64(grace / time.Second)})
	if cri.IsNotFound(err) {
		return nil
	}
	return err
}

func (k *Kubelet) removeContainer(ctx context.Context, id string) error {
	path := k.runtime.logPath(id)
	_, err := k.config.Runtime.Containers.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: id})
	if err != nil && !cri.IsNotFound(err) {
		return err
	}
	if path == "" {
		return nil
	}
	logs, err := filepath.Glob(path + "*") // with its rotated parts
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range logs {
		if err := os.Remove(l); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, k.removeDanglingLinks())...)
}

// removeDanglingLinks removes the legacy links of logs that are gone.
func (k *Kubelet) removeDanglingLinks() error {
	links, err := filepath.Glob(filepath.Join(k.config.ContainerLogs, "*.log"))
	if err != nil {
		return err
	}
	var errs []error
	for _, link := range links {
		if _, err := os.Stat(link); errors.Is(err, fs.ErrNotExist) {
			target, err := os.Readlink(link)
			if err != nil || !strings.HasPrefix(target, k.config.PodLogs+"/") {
				continue // not ours
			}
			if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// release gives back devices, volumes and cgroup.
func (k *Kubelet) release(ctx context.Context, w *worker) error {
	if err := k.claims.Unprepare(ctx, w.uid); err != nil {
		return fmt.Errorf("unprepare dynamic resources: %w", err)
	}
	if err := k.devices.Free(w.uid); err != nil {
		return err
	}
	if err := k.volumes.Unmount(ctx, w.uid); err != nil {
		return err
	}
	if err := k.users.Free(w.uid); err != nil {
		return err
	}
	return k.cgroups.Remove(w.uid)
}

// removePodFiles removes a pod's folder and logs.
func (k *Kubelet) removePodFiles(p *corev1.Pod) error {
	err := errors.Join(os.RemoveAll(k.podDir(p.UID)), os.RemoveAll(render.LogDirectory(k.config.PodLogs, p)))
	return errors.Join(err, k.removeDanglingLinks())
}
