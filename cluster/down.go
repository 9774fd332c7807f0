// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/cluster/node"
	"kogge.dev/kogge/cni"
	"kogge.dev/kogge/cri"
	"kogge.dev/kogge/cri/containerd"
	"kogge.dev/kogge/ledger"
)

// Down stops a cluster's process, its pods and its container runtime. Data stays.
func Down(ctx context.Context, settings Settings, out io.Writer) (err error) {
	if _, err := os.Stat(settings.DataDir); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(out, "no cluster in %s\n", settings.DataDir)
		return nil
	}
	if err := asRoot("down"); err != nil {
		return err
	}
	steps := newStages(out)
	paths := node.PathsOf(settings.DataDir, DefaultDataDir)
	runtime := node.Containerd(paths, nodeOf(settings), nil)
	_, alive, err := running(settings.DataDir)
	if err != nil {
		return err
	}
	if state, err := containerd.Inspect(runtime); err == nil && state.PID == 0 && !alive {
		fmt.Fprintf(out, "no cluster runs in %s\n", settings.DataDir)
		return nil
	}
	// Pods go first: their network is taken down by the process that made it. Its kubelet must not start them again.
	if err := paths.Hold(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, paths.Release()) }()
	if err := stopPods(ctx, runtime); err != nil {
		return err
	}
	steps.done("pods stopped")
	if err := stop(ctx, settings.DataDir, out); err != nil {
		return err
	}
	steps.done("cluster stopped")
	if err := containerd.Halt(ctx, runtime); err != nil {
		return err
	}
	steps.done("container runtime stopped")
	return nil
}

// stopPods stops every sandbox of a node, if its runtime runs. It looks again until none is left: what was just being started when the node was
// told to start nothing comes late.
func stopPods(ctx context.Context, config containerd.Config) error {
	state, err := containerd.Inspect(config)
	if err != nil || state.PID == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	runtime, err := cri.Connect(ctx, config.Socket())
	if err != nil {
		return err
	}
	defer runtime.Close()
	// At first also those that are not ready: a container may have outlived its sandbox.
	var which *runtimeapi.PodSandboxFilter
	for {
		list, err := runtime.Containers.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: which})
		if err != nil {
			return fmt.Errorf("list pods: %w", err)
		}
		if which != nil && len(list.Items) == 0 {
			return nil
		}
		if err := stopSandboxes(ctx, runtime, list.Items); err != nil {
			return err
		}
		which = &runtimeapi.PodSandboxFilter{State: &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY}}
	}
}

// stopSandboxes stops pods, whoever else does: a stop that fails is tried once more, since the kubelet may be stopping the same pod, and then
// containerd tells one of the two that what the other has just removed is not there.
func stopSandboxes(ctx context.Context, runtime *cri.Runtime, sandboxes []*runtimeapi.PodSandbox) error {
	var wg sync.WaitGroup
	errs := make(chan error, len(sandboxes))
	for _, sandbox := range sandboxes {
		wg.Go(func() {
			stop := &runtimeapi.StopPodSandboxRequest{PodSandboxId: sandbox.Id}
			_, err := runtime.Containers.StopPodSandbox(ctx, stop)
			if err != nil {
				_, err = runtime.Containers.StopPodSandbox(ctx, stop)
			}
			if err != nil {
				errs <- fmt.Errorf("stop pod %s/%s: %w", sandbox.Metadata.GetNamespace(), sandbox.Metadata.GetName(), err)
			}
		})
	}
	wg.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// Reset removes everything that kogge made on this machine for a data folder, running or not, and returns what could not be
// removed.
func Reset(ctx context.Context, settings Settings, out io.Writer) ([]string, error) {
	if err := asRoot("reset"); err != nil {
		return nil, err
	}
	if err := owned(settings.DataDir); err != nil {
		return nil, err
	}
	paths := node.PathsOf(settings.DataDir, DefaultDataDir)
	runtime := node.Containerd(paths, nodeOf(settings), nil)
	steps := newStages(out)
	if err := paths.Hold(); err != nil {
		return nil, err
	}
	if err := stopPods(ctx, runtime); err != nil {
		fmt.Fprintf(out, "pods did not stop in order, they are killed: %v\n", err)
	}
	if err := stop(ctx, settings.DataDir, out); err != nil {
		return nil, err
	}
	steps.done("cluster stopped")
	if err := containerd.Purge(ctx, runtime); err != nil {
		return nil, err
	}
	steps.done("containers removed")
	if err := cni.Purge(node.Network(paths, nil, nil)); err != nil {
		return nil, err
	}
	owned := []string{paths.Kubelet, paths.PodLogs, paths.ContainerLogs, paths.Run, settings.DataDir}
	var left []string
	for _, dir := range owned {
		if err := unmountBelow(dir); err != nil {
			return nil, err
		}
	}
	for _, home := range homesOf(settings.DataDir) {
		hostLeft, err := undoLedger(ctx, ledgerPath(home))
		if err != nil {
			return nil, err
		}
		left = append(left, hostLeft...)
	}
	steps.done("network and host settings undone")
	for _, dir := range owned {
		if err := os.RemoveAll(dir); err != nil {
			left = append(left, fmt.Sprintf("folder %s: %v", dir, err))
		}
	}
	steps.done("data removed")
	return left, nil
}

// undoLedger undoes what a ledger lists and verifies it.
func undoLedger(ctx context.Context, path string) (left []string, err error) {
	if !exists(path) {
		return nil, nil
	}
	l, err := ledger.Open(ledger.Config{Path: path})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	entries := l.Entries()
	if err := l.Undo(ctx); err != nil {
		return nil, fmt.Errorf("undo: %w", err)
	}
	leftovers, err := l.Verify(ctx, entries)
	for _, o := range leftovers {
		left = append(left, fmt.Sprint(o))
	}
	return left, err
}

// unmountBelow unmounts everything mounted on a folder or in it, the deepest first.
func unmountBelow(dir string) error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4]+"/", filepath.Clean(dir)+"/") {
			points = append(points, fields[4])
		}
	}
	slices.SortFunc(points, func(a, b string) int { return len(b) - len(a) })
	for _, point := range points {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	return nil
}
