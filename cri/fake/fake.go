// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package fake is a container runtime in memory with the semantics of the real one: sandboxes, containers, images, exits,
// logs and events behave as the suite in cri/critest demands of containerd. It runs no processes; what a container
// would do is said by Config.Behave or injected with Exit.
//
// It uses the clock only through package time, so that it works in a testing/synctest bubble.
package fake

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/cri"
)

// Behaviour is what a container does once it is started.
type Behaviour struct {
	// Ends says that the process ends by itself After its start, with Code. Otherwise it runs until it is stopped.
	Ends  bool
	After time.Duration
	Code  int32
	// IgnoresStop says that the process does not react to its stop signal: it ends with 137 when the time to stop is up.
	// Otherwise it ends with StopCode at once.
	IgnoresStop bool
	StopCode    int32
	// StartError, if not empty, fails StartContainer; the container then is exited with code 128.
	StartError string
	// OOMKilled marks the exit as one by the out-of-memory killer.
	OOMKilled bool
	// Output is written to the log at the start.
	Output string
}

// Config says how the runtime behaves; the zero value is a runtime on which everything succeeds.
type Config struct {
	// Behave decides what a container does; nil means that all run until stopped.
	Behave func(*runtimeapi.ContainerConfig) Behaviour
	// Exec answers ExecSync; nil means success with no output. It is called without locks held.
	Exec func(container *runtimeapi.ContainerConfig, command []string) (stdout, stderr string, code int32)
	// Pull decides whether an image can be pulled, and how long that takes; nil means yes, at once.
	Pull func(image string) (time.Duration, error)
	// StreamURL answers Exec, Attach and PortForward; nil means that they are not implemented.
	StreamURL func(kind, id string) string
	// PodCIDR gives sandboxes their addresses; default 10.88.0.0/16.
	PodCIDR netip.Prefix
	// WriteLogs says that container output goes to the log path of the container, in CRI's format.
	WriteLogs bool
	// Logger receives every call at debug level; default discards.
	Logger *slog.Logger
}

// Runtime is the runtime in memory. Its methods are safe for concurrent use.
type Runtime struct {
	config Config

	// mu guards everything below. It is never held while calling a function of Config.
	mu sync.Mutex

	serial      uint64
	nextAddress netip.Addr
	sandboxes   map[string]*sandbox
	containers  map[string]*container
	images      map[string]*runtimeapi.Image // by id
	pulls       map[string]int
	subscribers map[*subscriber]struct{}
	failures    map[string]error
	notReady    string
}

// sandbox is one pod's sandbox.
type sandbox struct {
	config *runtimeapi.PodSandboxConfig
	status *runtimeapi.PodSandboxStatus
}

// container is one container; its status holds the state.
type container struct {
	sandboxID string
	config    *runtimeapi.ContainerConfig
	status    *runtimeapi.ContainerStatus
	behaviour Behaviour
	// ended is closed when the process has ended; nil before the start.
	ended chan struct{}
	// timer ends the process by itself; nil if it does not.
	timer *time.Timer
	// stats is what SetStats said; nil means zero usage.
	stats *runtimeapi.ContainerStats
}

// New makes a runtime with no sandboxes and only the images given by name.
func New(config Config, images ...string) *Runtime {
	if !config.PodCIDR.IsValid() {
		config.PodCIDR = netip.MustParsePrefix("10.88.0.0/16")
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Runtime{
		config:      config,
		nextAddress: config.PodCIDR.Masked().Addr().Next(),
		sandboxes:   map[string]*sandbox{},
		containers:  map[string]*container{},
		images:      map[string]*runtimeapi.Image{},
		pulls:       map[string]int{},
		subscribers: map[*subscriber]struct{}{},
		failures:    map[string]error{},
	}
	for _, name := range images {
		f.storeImageLocked(name)
	}
	return f
}

// CRI is the runtime as the kubelet sees it.
func (f *Runtime) CRI() *cri.Runtime {
	return &cri.Runtime{Containers: runtimeService{f: f}, Images: imageService{f: f}}
}

// Fail makes every call of method, as "RunPodSandbox", return err from now on; nil heals it.
func (f *Runtime) Fail(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.failures, method)
		return
	}
	f.failures[method] = err
}

// SetNetworkReady sets the condition NetworkReady; a message that is not empty says why it is false.
func (f *Runtime) SetNetworkReady(message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notReady = message
}

// Exit ends the process of a running container, as a crash (or, with 137, a kill) would. It reports an error if the
// container does not run.
func (f *Runtime) Exit(containerID string, code int32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.containers[containerID]
	if !ok || c.status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return fmt.Errorf("exit container %s: not running", containerID)
	}
	f.exitLocked(c, code)
	return nil
}

// ExitSandbox ends the pause process of a sandbox, as a kill of it would: the sandbox is not ready any more, and its
// containers, which may share its namespaces, go on until they are stopped.
func (f *Runtime) ExitSandbox(sandboxID string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.sandboxes[sandboxID]
	if !ok || s.status.State != runtimeapi.PodSandboxState_SANDBOX_READY {
		return fmt.Errorf("exit sandbox %s: not ready", sandboxID)
	}
	s.status.State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	f.emitLocked(sandboxID, sandboxID, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	return nil
}

// Find returns the ids of the running containers whose container name is name, in pod, by pod name.
func (f *Runtime) Find(pod, name string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []string
	for id, c := range f.containers {
		s := f.sandboxes[c.sandboxID]
		if c.config.Metadata.GetName() == name && s != nil && s.config.Metadata.GetName() == pod &&
			c.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			ids = append(ids, id)
		}
	}
	return ids
}

// Created returns what a container was created from, or nil. It must not be changed.
func (f *Runtime) Created(containerID string) *runtimeapi.ContainerConfig {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok := f.containers[containerID]; ok {
		return c.config
	}
	return nil
}

// Pulls reports how often image was pulled.
func (f *Runtime) Pulls(image string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pulls[image]
}

// SetStats sets what ContainerStats says of a container.
func (f *Runtime) SetStats(containerID string, stats *runtimeapi.ContainerStats) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok := f.containers[containerID]; ok {
		c.stats = stats
	}
}

// failure returns the injected error of a method.
func (f *Runtime) failure(method string) error {
	f.config.Logger.Debug("call", "method", method)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failures[method]
}

// newIDLocked makes an identifier in the form of the real ones: 64 hexadecimal digits.
func (f *Runtime) newIDLocked() string {
	f.serial++
	return fmt.Sprintf("%064x", f.serial*0x9e3779b97f4a7c15)
}
