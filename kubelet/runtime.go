// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/cri"
	"kogge.dev/kogge/kubelet/pod"
	"kogge.dev/kogge/kubelet/render"
)

// runtimeView reads pods' state from the container runtime. A container's details are asked for once per state that it enters.
type runtimeView struct {
	cri *cri.Runtime
	log *slog.Logger

	mu      sync.Mutex
	details map[string]cachedContainer // by container id
	name    string                     // of the runtime, "containerd"
}

type cachedContainer struct {
	uid       types.UID
	state     runtimeapi.ContainerState
	container pod.Container
	logPath   string
}

func newRuntimeView(r *cri.Runtime, log *slog.Logger) *runtimeView {
	return &runtimeView{cri: r, log: log, details: map[string]cachedContainer{}, name: "containerd"}
}

// observe returns all that the runtime holds of a pod.
func (v *runtimeView) observe(ctx context.Context, uid types.UID) (pod.Runtime, error) {
	selector := map[string]string{render.LabelPodUID: string(uid)}
	sandboxes, err := v.cri.Containers.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{LabelSelector: selector}})
	if err != nil {
		return pod.Runtime{}, fmt.Errorf("list sandboxes: %w", err)
	}
	containers, err := v.cri.Containers.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{LabelSelector: selector}})
	if err != nil {
		return pod.Runtime{}, fmt.Errorf("list containers: %w", err)
	}
	var out pod.Runtime
	for _, s := range sandboxes.GetItems() {
		sandbox, err := v.sandbox(ctx, s)
		if err != nil {
			return pod.Runtime{}, err
		}
		if sandbox != nil {
			out.Sandboxes = append(out.Sandboxes, *sandbox)
		}
	}
	held := map[string]bool{}
	for _, c := range containers.GetContainers() {
		container, err := v.container(ctx, uid, c)
		if err != nil {
			return pod.Runtime{}, err
		}
		if container != nil {
			out.Containers = append(out.Containers, *container)
			held[c.GetId()] = true
		}
	}
	v.drop(uid, held)
	return out, nil
}

func (v *runtimeView) drop(uid types.UID, held map[string]bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, c := range v.details {
		if c.uid == uid && !held[id] {
			delete(v.details, id)
		}
	}
}

// sandbox returns nil for one that vanished meanwhile.
func (v *runtimeView) sandbox(ctx context.Context, s *runtimeapi.PodSandbox) (*pod.Sandbox, error) {
	out := &pod.Sandbox{
		ID: s.GetId(), Attempt: s.GetMetadata().GetAttempt(), Ready: s.GetState() == runtimeapi.PodSandboxState_SANDBOX_READY, CreatedAt: time.Unix(0, s.GetCreatedAt()),
	}
	if !out.Ready {
		return out, nil
	}
	r, err := v.cri.Containers.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: s.GetId()})
	if cri.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("status of sandbox %s: %w", s.GetId(), err)
	}
	network := r.GetStatus().GetNetwork()
	if ip := network.GetIp(); ip != "" {
		out.IPs = append(out.IPs, ip)
	}
	for _, more := range network.GetAdditionalIps() {
		if more.GetIp() != "" {
			out.IPs = append(out.IPs, more.GetIp())
		}
	}
	return out, nil
}

func (v *runtimeView) container(ctx context.Context, uid types.UID, c *runtimeapi.Container) (*pod.Container, error) {
	v.mu.Lock()
	cached, ok := v.details[c.GetId()]
	v.mu.Unlock()
	if ok && cached.state == c.GetState() {
		return &cached.container, nil
	}
	r, err := v.cri.Containers.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: c.GetId()})
	if cri.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("status of container %s: %w", c.GetId(), err)
	}
	out := convertContainer(r.GetStatus())
	out.SandboxID = c.GetPodSandboxId()
	v.mu.Lock()
	v.details[c.GetId()] = cachedContainer{uid: uid, state: r.GetStatus().GetState(), container: out, logPath: r.GetStatus().GetLogPath()}
	v.mu.Unlock()
	return &out, nil
}

func convertContainer(s *runtimeapi.ContainerStatus) pod.Container {
	out := pod.Container{
		ID: s.GetId(), Name: s.GetMetadata().GetName(), Attempt: int32(s.GetMetadata().GetAttempt()), Hash: render.Hash(s.GetAnnotations()),
		CreatedAt: time.Unix(0, s.GetCreatedAt()), Image: s.GetImage().GetImage(), ImageRef: s.GetImageRef(),
	}
	if name := s.GetImage().GetUserSpecifiedImage(); name != "" {
		out.Image = name
	}
	if u := s.GetUser().GetLinux(); u != nil {
		out.User = &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: u.GetUid(), GID: u.GetGid(), SupplementalGroups: u.GetSupplementalGroups()}}
	}
	if sig := s.GetStopSignal(); sig != runtimeapi.Signal_RUNTIME_DEFAULT {
		name := corev1.Signal(sig.String())
		out.StopSignal = &name
	}
	switch s.GetState() {
	case runtimeapi.ContainerState_CONTAINER_CREATED:
		out.State = pod.Created
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
		out.State, out.StartedAt = pod.Running, time.Unix(0, s.GetStartedAt())
	case runtimeapi.ContainerState_CONTAINER_EXITED:
		out.State, out.StartedAt, out.FinishedAt = pod.Exited, time.Unix(0, s.GetStartedAt()), time.Unix(0, s.GetFinishedAt())
		if s.GetStartedAt() == 0 {
			out.StartedAt = out.CreatedAt
		}
		out.ExitCode, out.Reason, out.Message = s.GetExitCode(), s.GetReason(), exitMessage(s)
	default:
		out.State = pod.Unknown
	}
	return out
}

// Bounds of termination messages, in bytes and lines.
const (
	maxMessage      = 4096
	maxMessageLog   = 2048
	maxMessageLines = 80
)

// exitMessage is what the container left in its termination message file, or the end of its log.
func exitMessage(s *runtimeapi.ContainerStatus) string {
	path, fromLog := render.TerminationMessage(s.GetAnnotations())
	text := ""
	for _, m := range s.GetMounts() {
		if m.GetContainerPath() == path && path != "" {
			text = readTail(m.GetHostPath(), maxMessage)
			break
		}
	}
	if text == "" && fromLog && s.GetExitCode() != 0 {
		text = logTail(s.GetLogPath())
	}
	switch {
	case s.GetMessage() == "":
		return text
	case text == "":
		return s.GetMessage()
	}
	return s.GetMessage() + ": " + text
}

// readTail returns at most the last limit bytes of a file; nothing if it can't be read.
func readTail(path string, limit int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	offset := max(info.Size()-limit, 0)
	buf := make([]byte, info.Size()-offset)
	n, _ := f.ReadAt(buf, offset) // a shorter file is as good
	return string(buf[:n])
}

// logTail returns the last lines of a container's log without the runtime's decoration.
func logTail(path string) string {
	lines := strings.Split(strings.TrimSuffix(readTail(path, 4*maxMessageLog), "\n"), "\n")
	if len(lines) > maxMessageLines {
		lines = lines[len(lines)-maxMessageLines:]
	}
	var b strings.Builder
	for _, line := range lines {
		// "<time> <stream> <tags> <text>"; the first line may be cut.
		parts := strings.SplitN(line, " ", 4)
		if len(parts) < 4 {
			continue
		}
		b.WriteString(parts[3])
		if parts[2] == "F" {
			b.WriteByte('\n')
		}
	}
	text := b.String()
	if len(text) > maxMessageLog {
		text = text[len(text)-maxMessageLog:]
	}
	return text
}

// logPath returns where a container logs.
func (v *runtimeView) logPath(id string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.details[id].logPath
}

// follow tells changed of every pod that the runtime reports an event of, and relist when events may have been missed.
func (v *runtimeView) follow(ctx context.Context, changed func(types.UID), relist func()) {
	const slowRelist = 5 * time.Minute // the safety net for a runtime that loses an event
	ticker := time.NewTicker(slowRelist)
	defer ticker.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				relist()
			}
		}
	})
	delay := 20 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		err := v.cri.Events(ctx, relist, func(e *runtimeapi.ContainerEventResponse) {
			if uid := eventPod(e); uid != "" {
				changed(uid)
			}
		})
		if ctx.Err() != nil {
			return
		}
		v.log.Warn("container event stream ended", "err", err)
		if time.Since(began) > time.Minute {
			delay = 20 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
		delay = min(2*delay, 5*time.Second)
	}
}

func eventPod(e *runtimeapi.ContainerEventResponse) types.UID {
	if uid := e.GetPodSandboxStatus().GetMetadata().GetUid(); uid != "" {
		return types.UID(uid)
	}
	for _, c := range e.GetContainersStatuses() {
		if uid := c.GetLabels()[render.LabelPodUID]; uid != "" {
			return types.UID(uid)
		}
	}
	return ""
}
