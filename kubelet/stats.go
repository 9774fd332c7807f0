// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"os"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"kogge.dev/kogge/kubelet/cgroups"
	"kogge.dev/kogge/kubelet/pod"
	"kogge.dev/kogge/kubelet/volumes"
)

// rates turns processor time that only grows into a rate, from one question to the next.
type rates struct {
	mu   sync.Mutex
	last map[string]sample
}

type sample struct {
	at    time.Time
	usage uint64 // nanoseconds
	rate  uint64 // nanocores
}

// of returns the rate of a key; nil until it was asked for twice. Questions in quick succession get the same answer.
func (r *rates) of(key string, usage uint64, now time.Time) *uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[string]sample{}
	}
	old, ok := r.last[key]
	if !ok || usage < old.usage {
		r.last[key] = sample{at: now, usage: usage}
		return nil
	}
	span := now.Sub(old.at)
	if span < time.Second {
		if old.rate == 0 {
			return nil
		}
		return &old.rate
	}
	rate := uint64(float64(usage-old.usage) / span.Seconds())
	r.last[key] = sample{at: now, usage: usage, rate: rate}
	// What was not asked for in an hour is gone.
	for k, s := range r.last {
		if now.Sub(s.at) > time.Hour {
			delete(r.last, k)
		}
	}
	return &rate
}

func usageStats(r *rates, key string, u cgroups.Usage, now time.Time) (*stats.CPUStats, *stats.MemoryStats) {
	stamp := metav1.NewTime(now)
	cpu := &stats.CPUStats{Time: stamp, UsageCoreNanoSeconds: &u.CPU, UsageNanoCores: r.of(key, u.CPU, now)}
	memory := &stats.MemoryStats{Time: stamp, UsageBytes: &u.Memory, WorkingSetBytes: &u.WorkingSet, RSSBytes: &u.RSS, PageFaults: &u.PageFaults, MajorPageFaults: &u.MajorFaults}
	if u.MemoryLimit > 0 {
		available := u.MemoryLimit - min(u.WorkingSet, u.MemoryLimit)
		memory.AvailableBytes = &available
	}
	return cpu, memory
}

// summary measures node and pods. With only set to "true", disks are left out.
func (k *Kubelet) summary(ctx context.Context, only string) (*stats.Summary, error) {
	now := time.Now()
	out := &stats.Summary{Node: k.nodeStats(ctx, now, only == "true"), Pods: []stats.PodStats{}}
	containers, err := k.containerStats(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range k.all() {
		if p, ok := k.podStats(w, containers, now, only == "true"); ok {
			out.Pods = append(out.Pods, p)
		}
	}
	return out, nil
}

func (k *Kubelet) nodeStats(ctx context.Context, now time.Time, brief bool) stats.NodeStats {
	n := stats.NodeStats{NodeName: k.config.NodeName, StartTime: metav1.NewTime(k.started)}
	n.CPU, n.Memory = usageStats(&k.rates, "node", k.cgroups.Machine(), now)
	memory := meminfo()
	available := memory["MemAvailable"]
	n.Memory.AvailableBytes = &available
	if *n.Memory.WorkingSetBytes == 0 {
		used := memory["MemTotal"] - available
		n.Memory.WorkingSetBytes = &used
	}
	if brief {
		return n
	}
	n.Fs = fsStats(statFilesystem(k.config.Root), now)
	n.Runtime = &stats.RuntimeStats{ImageFs: fsStats(statFilesystem(existing(k.imageRoot(ctx))), now)}
	n.Runtime.ContainerFs = n.Runtime.ImageFs
	limit := int64(readNumber("/proc/sys/kernel/pid_max"))
	n.Rlimit = &stats.RlimitStats{Time: metav1.NewTime(now), MaxPID: &limit}
	return n
}

func fsStats(fs filesystem, now time.Time) *stats.FsStats {
	used, inodes := fs.total-fs.available, fs.inodes-fs.free
	return &stats.FsStats{
		Time: metav1.NewTime(now), AvailableBytes: &fs.available, CapacityBytes: &fs.total, UsedBytes: &used, Inodes: &fs.inodes, InodesFree: &fs.free, InodesUsed: &inodes,
	}
}

// containerStats asks the runtime for all containers, by id.
func (k *Kubelet) containerStats(ctx context.Context) (map[string]*runtimeapi.ContainerStats, error) {
	r, err := k.config.Runtime.Containers.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
	if err != nil {
		return nil, err
	}
	out := make(map[string]*runtimeapi.ContainerStats, len(r.GetStats()))
	for _, s := range r.GetStats() {
		out[s.GetAttributes().GetId()] = s
	}
	return out, nil
}

func (k *Kubelet) podStats(w *worker, containers map[string]*runtimeapi.ContainerStats, now time.Time, brief bool) (stats.PodStats, bool) {
	v := w.view.Load()
	if v.stage == pod.Terminated || v.status.StartTime == nil {
		return stats.PodStats{}, false
	}
	out := stats.PodStats{
		PodRef:    stats.PodReference{Name: v.pod.Name, Namespace: v.pod.Namespace, UID: string(v.pod.UID)},
		StartTime: *v.status.StartTime, Containers: []stats.ContainerStats{},
	}
	running := false
	for _, c := range v.runtime.Containers {
		s := containers[c.ID]
		if c.State != pod.Running || s == nil {
			continue
		}
		running = true
		out.Containers = append(out.Containers, k.oneContainer(c, s, now, brief))
	}
	if !running {
		return out, false
	}
	usage := k.cgroups.Usage(k.podCgroup(w))
	out.CPU, out.Memory = usageStats(&k.rates, "pod/"+string(w.uid), usage, now)
	out.ProcessStats = &stats.ProcessStats{ProcessCount: &usage.Pids}
	if brief {
		return out, true
	}
	used := uint64(0)
	for _, u := range k.volumes.Usage(w.uid, usageAge) {
		out.VolumeStats = append(out.VolumeStats, volumeStats(u, now))
		used += u.Used
	}
	fs := fsStats(statFilesystem(k.config.Root), now)
	fs.UsedBytes, fs.InodesUsed = &used, nil
	out.EphemeralStorage = fs
	return out, true
}

func volumeStats(u volumes.Usage, now time.Time) stats.VolumeStats {
	return stats.VolumeStats{Name: u.Volume, FsStats: stats.FsStats{
		Time: metav1.NewTime(now), AvailableBytes: &u.Available, CapacityBytes: &u.Total, UsedBytes: &u.Used, Inodes: &u.Inodes, InodesFree: &u.Free, InodesUsed: &u.UsedInodes,
	}}
}

func (k *Kubelet) oneContainer(c pod.Container, s *runtimeapi.ContainerStats, now time.Time, brief bool) stats.ContainerStats {
	out := stats.ContainerStats{Name: c.Name, StartTime: metav1.NewTime(c.StartedAt)}
	cpu := s.GetCpu().GetUsageCoreNanoSeconds().GetValue()
	stamp := metav1.NewTime(now)
	out.CPU = &stats.CPUStats{Time: stamp, UsageCoreNanoSeconds: &cpu, UsageNanoCores: k.rates.of("container/"+c.ID, cpu, now)}
	m := s.GetMemory()
	usage, working, rss := m.GetUsageBytes().GetValue(), m.GetWorkingSetBytes().GetValue(), m.GetRssBytes().GetValue()
	out.Memory = &stats.MemoryStats{Time: stamp, UsageBytes: &usage, WorkingSetBytes: &working, RSSBytes: &rss}
	if brief {
		return out
	}
	if layer := s.GetWritableLayer(); layer != nil {
		used, inodes := layer.GetUsedBytes().GetValue(), layer.GetInodesUsed().GetValue()
		out.Rootfs = fsStats(statFilesystem(existing(layer.GetFsId().GetMountpoint())), now)
		out.Rootfs.UsedBytes, out.Rootfs.InodesUsed = &used, &inodes
	}
	size := uint64(0)
	if info, err := os.Stat(k.runtime.logPath(c.ID)); err == nil {
		size = uint64(info.Size())
	}
	out.Logs = fsStats(statFilesystem(k.config.PodLogs), now)
	out.Logs.UsedBytes = &size
	return out
}
