// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kubelet/images"
	"kogge.dev/kogge/kubelet/pod"
	"kogge.dev/kogge/kubelet/render"
)

// startContainer pulls the image, creates and starts the container and runs its postStart hook.
func (k *Kubelet) startContainer(ctx context.Context, w *worker, p *corev1.Pod, a pod.Action) pod.Outcome {
	c := a.Container
	event := func(kind, reason, message string) { w.event(p, c.Name, kind, reason, message) }
	fail := func(reason string, err error) pod.Outcome {
		message := status.Convert(err).Message()
		event(corev1.EventTypeWarning, "Failed", "Error: "+message)
		return pod.Outcome{Err: err, Reason: reason, Message: message}
	}
	sandbox, err := k.sandboxConfig(w, p, k.sandboxAttempt(w, a.SandboxID))
	if err != nil {
		return fail(pod.ReasonConfigError, err)
	}
	handler, err := k.runtimeHandler(p)
	if err != nil {
		return fail(pod.ReasonConfigError, err)
	}
	request := images.Request{Image: c.Image, Policy: c.ImagePullPolicy, Secrets: k.pullSecrets(w.starts, p), Handler: handler, Sandbox: sandbox, Event: event}
	image, err := k.puller.Ensure(w.starts, request)
	if err != nil {
		return pullOutcome(w, c, err, event)
	}
	config, err := k.containerConfig(w, p, a, image, request)
	if _, ok := errors.AsType[*images.Error](err); ok {
		return pullOutcome(w, c, err, event)
	}
	if err != nil {
		return fail(pod.ReasonConfigError, err)
	}
	for _, old := range w.view.Load().runtime.Containers {
		if old.Name != c.Name || old.State != pod.Exited {
			continue
		}
		if err := k.cgroups.Sweep(p.UID, w.qos, old.ID); err != nil {
			return fail(pod.ReasonCreateError, err)
		}
	}
	if a.Attempt > 0 {
		// It may start again with more than the pod's cgroup was made for.
		if err := k.cgroups.Widen(p, w.qos); err != nil {
			return fail(pod.ReasonConfigError, err)
		}
		defer k.narrow(w, p)
	}
	if k.held() {
		return failed(errHeld)
	}
	created, err := k.config.Runtime.Containers.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: a.SandboxID, Config: config, SandboxConfig: sandbox,
	})
	if err != nil {
		return fail(pod.ReasonCreateError, err)
	}
	event(corev1.EventTypeNormal, "Created", "Container created")
	if _, err := k.config.Runtime.Containers.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: created.GetContainerId()}); err != nil {
		return fail(pod.ReasonRunError, err)
	}
	event(corev1.EventTypeNormal, "Started", "Container started")
	k.linkLog(w, p, c.Name, created.GetContainerId(), filepath.Join(sandbox.GetLogDirectory(), config.GetLogPath()))
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return pod.Outcome{}
	}
	w.markDirty() // the container is shown as running while its hook runs
	if err := k.runHook(ctx, w, p, c, created.GetContainerId(), c.Lifecycle.PostStart); err != nil {
		event(corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
		event(corev1.EventTypeNormal, "Killing", "FailedPostStartHook")
		k.stopAfterHook(ctx, w, p, a, created.GetContainerId())
		return pod.Outcome{Err: err, Reason: pod.ReasonPostStartError, Message: err.Error()}
	}
	return pod.Outcome{}
}

func pullOutcome(w *worker, c *corev1.Container, err error, event func(kind, reason, message string)) pod.Outcome {
	out := pod.Outcome{Err: err, Reason: pod.ReasonErrImagePull, Image: c.Image, Message: err.Error()}
	var e *images.Error
	if errors.As(err, &e) && e.Reason != images.ReasonPull {
		out.Reason = e.Reason
	}
	if w.starts.Err() == nil {
		event(corev1.EventTypeWarning, "Failed", "Error: "+out.Reason)
	}
	return out
}

func (k *Kubelet) sandboxAttempt(w *worker, id string) uint32 {
	for _, s := range w.view.Load().runtime.Sandboxes {
		if s.ID == id {
			return s.Attempt
		}
	}
	return 0
}

// pullSecrets reads the pod's pull secrets; one that can't be read is left out, the pull then fails where it was needed.
func (k *Kubelet) pullSecrets(ctx context.Context, p *corev1.Pod) []*corev1.Secret {
	var out []*corev1.Secret
	for _, ref := range p.Spec.ImagePullSecrets {
		if s, err := k.secret(ctx, p.Namespace, ref.Name); err == nil {
			out = append(out, s)
		} else if w := k.worker(p.UID); w != nil && ctx.Err() == nil {
			w.event(p, "", corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
				fmt.Sprintf("Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", ref.Name))
		}
	}
	return out
}

func (k *Kubelet) containerConfig(w *worker, p *corev1.Pod, a pod.Action, image images.Image, request images.Request) (*runtimeapi.ContainerConfig, error) {
	ctx, c := w.starts, a.Container
	attempt := uint32(a.Attempt)
	logs := filepath.Join(render.LogDirectory(k.config.PodLogs, p), c.Name)
	if attempt == 0 {
		attempt = nextLog(logs)
	}
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, fmt.Errorf("create container log directory for container %s failed: %w", c.Name, err)
	}
	env, skipped, err := k.environment(ctx, w, p, c)
	if err != nil {
		return nil, err
	}
	for _, note := range skipped {
		w.event(p, "", corev1.EventTypeWarning, "InvalidEnvironmentVariableNames", note)
	}
	mounts, err := k.mounts(ctx, w, p, c, env, request)
	if err != nil {
		return nil, err
	}
	devices, err := k.blockDevices(ctx, p, c)
	if err != nil {
		return nil, err
	}
	cdi, err := k.claims.CDI(p, c)
	if err != nil {
		return nil, err
	}
	users, err := k.userNamespace(p)
	if err != nil {
		return nil, err
	}
	s := render.Container{
		Users:   users,
		Devices: devices, CDIDevices: cdi,
		Pod: p, Spec: c, Attempt: attempt, ImageRef: image.Ref, ImageUser: render.ImageUser{UID: image.UID, Name: image.User}, Env: env, Mounts: mounts,
		TargetID: a.Target, Resources: k.limits().Container(p, c, w.qos), SeccompRoot: filepath.Join(k.config.Root, "seccomp"),
		SeccompDefault: *k.config.Settings.SeccompDefault,
	}
	if err := k.addDevices(ctx, p, &s); err != nil {
		return nil, err
	}
	return s.Config()
}

// nextLog continues the numbers of logs that outlived their containers.
func nextLog(dir string) uint32 {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	next := uint64(0)
	for _, e := range entries {
		number, _, ok := strings.Cut(e.Name(), ".log")
		if n, err := strconv.ParseUint(number, 10, 32); ok && err == nil {
			next = max(next, n+1)
		}
	}
	return uint32(next)
}

func (k *Kubelet) environment(ctx context.Context, w *worker, p *corev1.Pod, c *corev1.Container) ([]*runtimeapi.KeyValue, []string, error) {
	facts := k.facts(p)
	if facts.PodIPs == nil {
		facts.PodIPs = k.podIPs(w, p)
	}
	return render.Environment{Pod: p, Spec: c, Facts: facts, Sources: render.Sources{
		ConfigMap: k.configMap, Secret: k.secret, Services: k.servicesOf,
		File: func(ref *corev1.FileKeySelector) (string, bool, error) { return k.environmentFile(ctx, p, ref) },
	}}.Build(ctx)
}

func (k *Kubelet) servicesOf(namespace string) []*corev1.Service {
	if k.services == nil {
		return nil
	}
	return k.services.List(namespace)
}

// podIPs returns the addresses of the pod's present sandbox.
func (k *Kubelet) podIPs(w *worker, p *corev1.Pod) []string {
	if p.Spec.HostNetwork {
		return k.hostIPs
	}
	if s := w.view.Load().runtime.Sandboxes; len(s) > 0 {
		return pod.SortIPs(s[0].IPs, k.hostIPs)
	}
	return nil
}

// environmentFile reads a key of an environment file: lines of KEY=VALUE, values may be single-quoted.
func (k *Kubelet) environmentFile(ctx context.Context, p *corev1.Pod, ref *corev1.FileKeySelector) (string, bool, error) {
	root, err := k.volumes.Path(ctx, p, ref.VolumeName)
	if err != nil {
		return "", false, err
	}
	base, err := os.OpenRoot(root)
	if err != nil {
		return "", false, err
	}
	defer base.Close() //nolint:errcheck // only read
	f, err := base.Open(ref.Path)
	if err != nil {
		if os.IsNotExist(err) && ref.Optional != nil && *ref.Optional {
			return "", false, nil
		}
		return "", false, fmt.Errorf("couldn't read environment file %s: %w", ref.Path, err)
	}
	defer f.Close()
	for scan := bufio.NewScanner(f); scan.Scan(); {
		name, value, ok := strings.Cut(strings.TrimSpace(scan.Text()), "=")
		if ok && name == ref.Key && !strings.HasPrefix(name, "#") {
			return strings.Trim(value, "'"), true, nil
		}
	}
	return "", false, nil
}

// mounts renders a container's volume mounts and the kubelet's own files.
func (k *Kubelet) mounts(ctx context.Context, w *worker, p *corev1.Pod, c *corev1.Container, env []*runtimeapi.KeyValue, request images.Request) ([]*runtimeapi.Mount, error) {
	var out []*runtimeapi.Mount
	mountsHosts := false
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		mountsHosts = mountsHosts || m.MountPath == "/etc/hosts"
		mount, err := k.mount(ctx, p, c, m, i, env, request)
		if err != nil {
			return nil, err
		}
		out = append(out, mount)
	}
	if !mountsHosts {
		path, err := k.writeHosts(w, p)
		if err != nil {
			return nil, err
		}
		readOnly := c.SecurityContext != nil && c.SecurityContext.ReadOnlyRootFilesystem != nil && *c.SecurityContext.ReadOnlyRootFilesystem
		out = append(out, &runtimeapi.Mount{ContainerPath: "/etc/hosts", HostPath: path, Readonly: readOnly, SelinuxRelabel: true})
	}
	if c.TerminationMessagePath != "" {
		path, err := k.makeMessageFile(p, c)
		if err != nil {
			return nil, err
		}
		out = append(out, &runtimeapi.Mount{ContainerPath: c.TerminationMessagePath, HostPath: path, SelinuxRelabel: true})
	}
	return out, nil
}

func (k *Kubelet) mount(ctx context.Context, p *corev1.Pod, c *corev1.Container, m *corev1.VolumeMount, index int, env []*runtimeapi.KeyValue, request images.Request) (*runtimeapi.Mount, error) {
	target := m.MountPath
	if !filepath.IsAbs(target) {
		target = filepath.Join("/", target)
	}
	out := &runtimeapi.Mount{ContainerPath: target, Readonly: m.ReadOnly, SelinuxRelabel: true, Propagation: propagation(m)}
	var err error
	if out.RecursiveReadOnly, err = k.recursivelyReadOnly(p, m); err != nil {
		return nil, err
	}
	sub, err := subPath(m, env)
	if err != nil {
		return nil, err
	}
	vol := findVolume(p, m.Name)
	if vol == nil {
		return nil, fmt.Errorf("cannot find volume %q to mount into container %q", m.Name, c.Name)
	}
	if vol.Image != nil {
		request.Image, request.Policy = vol.Image.Reference, vol.Image.PullPolicy
		image, err := k.puller.Ensure(ctx, request)
		if err != nil {
			return nil, err
		}
		out.Image, out.ImageSubPath, out.Readonly = &runtimeapi.ImageSpec{Image: image.Ref, UserSpecifiedImage: vol.Image.Reference}, sub, true
		return out, nil
	}
	if vol.ConfigMap != nil || vol.Secret != nil || vol.DownwardAPI != nil || vol.Projected != nil {
		out.Readonly = true
	}
	if out.HostPath, err = k.volumes.Path(ctx, p, m.Name); err != nil {
		return nil, err
	}
	if sub != "" {
		out.HostPath, err = k.volumes.Subpath(string(p.UID), m.Name, out.HostPath, sub, c.Name, index)
		if err != nil {
			return nil, err
		}
		return out, nil
	}
	if vol.HostPath != nil {
		// A host path of no type is made as a folder if it is missing, as runtimes always did.
		if _, err := os.Stat(out.HostPath); os.IsNotExist(err) {
			if err := os.MkdirAll(out.HostPath, 0o755); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// propagation says which way mounts below a volume are seen; by default neither way.
func propagation(m *corev1.VolumeMount) runtimeapi.MountPropagation {
	switch ptr.Deref(m.MountPropagation, corev1.MountPropagationNone) {
	case corev1.MountPropagationHostToContainer:
		return runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
	case corev1.MountPropagationBidirectional:
		return runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL
	case corev1.MountPropagationNone:
	}
	return runtimeapi.MountPropagation_PROPAGATION_PRIVATE
}

// recursivelyReadOnly says whether the mounts below a read-only volume are read-only too.
func (k *Kubelet) recursivelyReadOnly(p *corev1.Pod, m *corev1.VolumeMount) (bool, error) {
	if m.RecursiveReadOnly == nil || !m.ReadOnly {
		return false, nil
	}
	switch supported := k.recursiveReadOnly(p); *m.RecursiveReadOnly {
	case corev1.RecursiveReadOnlyEnabled:
		if !supported {
			return false, errors.New("volume mount requires recursive read-only, which the runtime handler does not support")
		}
		return true, nil
	case corev1.RecursiveReadOnlyIfPossible:
		return supported, nil
	case corev1.RecursiveReadOnlyDisabled:
	}
	return false, nil
}

// blockDevices renders the raw block volumes that a container sees.
func (k *Kubelet) blockDevices(ctx context.Context, p *corev1.Pod, c *corev1.Container) ([]*runtimeapi.Device, error) {
	var out []*runtimeapi.Device
	for i := range c.VolumeDevices {
		d := &c.VolumeDevices[i]
		path, err := k.volumes.Path(ctx, p, d.Name)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("volumeDevice %q: %w", d.Name, err)
		}
		if info.Mode()&os.ModeDevice == 0 || info.Mode()&os.ModeCharDevice != 0 {
			return nil, fmt.Errorf("volumeDevice %q: %s is not a block device", d.Name, path)
		}
		out = append(out, &runtimeapi.Device{ContainerPath: d.DevicePath, HostPath: path, Permissions: "mrw"})
	}
	return out, nil
}

func findVolume(p *corev1.Pod, name string) *corev1.Volume {
	for i := range p.Spec.Volumes {
		if p.Spec.Volumes[i].Name == name {
			return &p.Spec.Volumes[i]
		}
	}
	return nil
}

func subPath(m *corev1.VolumeMount, env []*runtimeapi.KeyValue) (string, error) {
	if m.SubPathExpr == "" {
		return strings.TrimSuffix(m.SubPath, "/"), nil
	}
	missing := ""
	out := render.Expand(m.SubPathExpr, func(name string) (string, bool) {
		for _, e := range env {
			if e.Key == name {
				return string(e.Value), true
			}
		}
		missing = name
		return "", false
	})
	if missing != "" {
		return "", fmt.Errorf("missing value for %q in subPathExpr %q", missing, m.SubPathExpr)
	}
	if filepath.IsAbs(out) {
		return "", fmt.Errorf("error SubPath `%s` must not be an absolute path", out)
	}
	return out, nil
}

// writeHosts writes the pod's hosts file, which its containers share.
func (k *Kubelet) writeHosts(w *worker, p *corev1.Pod) (string, error) {
	hostname, domain, err := render.HostnameAndDomain(p, k.config.Settings.ClusterDomain)
	if err != nil {
		return "", err
	}
	var host []byte
	if p.Spec.HostNetwork {
		if host, err = os.ReadFile("/etc/hosts"); err != nil && !os.IsNotExist(err) {
			return "", err
		}
	}
	path := filepath.Join(k.podDir(p.UID), "etc-hosts")
	if err := os.WriteFile(path, render.Hosts(p, k.podIPs(w, p), hostname, domain, host), 0o644); err != nil {
		return "", fmt.Errorf("write hosts file: %w", err)
	}
	return path, os.Chmod(path, 0o644)
}

// makeMessageFile makes the file in which a container leaves its termination message.
func (k *Kubelet) makeMessageFile(p *corev1.Pod, c *corev1.Container) (string, error) {
	dir := filepath.Join(k.podDir(p.UID), "containers", c.Name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("make termination message: %w", err)
	}
	var id [4]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", err
	}
	path := filepath.Join(dir, hex.EncodeToString(id[:]))
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		return "", fmt.Errorf("make termination message: %w", err)
	}
	return path, os.Chmod(path, 0o666) // the umask took bits away
}

// linkLog makes the legacy link to a container's log.
func (k *Kubelet) linkLog(w *worker, p *corev1.Pod, container, id, log string) {
	if _, err := os.Lstat(log); err != nil {
		return // a runtime that logs elsewhere
	}
	name := fmt.Sprintf("%s_%s_%s-%s.log", p.Name, p.Namespace, container, id)
	if err := os.Symlink(log, filepath.Join(k.config.ContainerLogs, name)); err != nil && !os.IsExist(err) {
		w.log.Warn("container log can't be linked", "err", err)
	}
}
