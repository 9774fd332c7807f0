// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/kubelet/eviction"
	"kogge.dev/kogge/kubelet/pod"
	"kogge.dev/kogge/kubelet/volumes"
)

// pressureSample is how often memory, disk and processes are looked at. Between samples nothing runs.
const pressureSample = 10 * time.Second

// usageAge is for how long a pod's measured disk usage is believed.
const usageAge = time.Minute

// watchPressure ends pods when the node runs out of something, and those that use more scratch space than they may.
func (k *Kubelet) watchPressure(ctx context.Context) {
	s := &k.config.Settings
	thresholds, err := eviction.Parse(s.EvictionHard, s.EvictionSoft, s.EvictionSoftGracePeriod, s.EvictionMinimumReclaim)
	if err != nil {
		k.log.Warn("eviction thresholds are wrong, nothing will be evicted", "err", err)
		return
	}
	state := eviction.New(thresholds, s.EvictionPressureTransitionPeriod.Duration)
	ticker := time.NewTicker(pressureSample)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		k.checkLocalStorage()
		met := state.Observe(k.signals(ctx), time.Now())
		for _, t := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
			k.status.setPressure(t, state.Pressure(t))
		}
		if met != nil {
			k.relieve(ctx, met)
		}
	}
}

// signals samples what thresholds are about.
func (k *Kubelet) signals(ctx context.Context) map[eviction.Signal]eviction.Observation {
	out := map[eviction.Signal]eviction.Observation{}
	memory := meminfo()
	used := k.cgroups.Machine()
	available := memory["MemAvailable"]
	if used.WorkingSet > 0 && used.WorkingSet < memory["MemTotal"] {
		available = max(available, memory["MemTotal"]-used.WorkingSet)
	}
	out[eviction.MemoryAvailable] = eviction.Observation{Available: available, Capacity: memory["MemTotal"]}
	if fs := statFilesystem(k.config.Root); fs.total > 0 {
		out[eviction.NodeFsAvailable] = eviction.Observation{Available: fs.available, Capacity: fs.total}
		if fs.inodes > 0 {
			out[eviction.NodeFsInodesFree] = eviction.Observation{Available: fs.free, Capacity: fs.inodes}
		}
	}
	if fs := statFilesystem(existing(k.imageRoot(ctx))); fs.total > 0 {
		out[eviction.ImageFsAvailable] = eviction.Observation{Available: fs.available, Capacity: fs.total}
		if fs.inodes > 0 {
			out[eviction.ImageFsInodesFree] = eviction.Observation{Available: fs.free, Capacity: fs.inodes}
		}
	}
	if limit := readNumber("/proc/sys/kernel/pid_max"); limit > 0 {
		running := uint64(0)
		if _, err := fmt.Sscanf(readLine("/proc/loadavg"), "%f %f %f %d/%d", new(float64), new(float64), new(float64), new(uint64), &running); err == nil && running < limit {
			out[eviction.PIDAvailable] = eviction.Observation{Available: limit - running, Capacity: limit}
		}
	}
	return out
}

// relieve frees what is missing: unused images first, then one pod.
func (k *Kubelet) relieve(ctx context.Context, met *eviction.Met) {
	k.nodeEvent(corev1.EventTypeWarning, "EvictionThresholdMet", fmt.Sprintf("Attempting to reclaim %s", met.Resource))
	if met.Signal.Disk() {
		if _, err := k.removeImages(ctx, 1<<62); err != nil {
			k.log.Warn("images can't be removed under disk pressure", "err", err)
		}
		if o, ok := k.signals(ctx)[met.Signal]; ok && o.Available > met.Threshold.Value(o.Capacity) {
			return
		}
	}
	var candidates []eviction.Candidate
	byID := map[string]*worker{}
	for _, w := range k.all() {
		v := w.view.Load()
		if v.stage != pod.Syncing || isCritical(v.pod, w.static) {
			continue
		}
		c := eviction.Candidate{ID: string(w.uid), Pod: v.pod, Priority: priority(v.pod), QOS: w.qos}
		usage := k.cgroups.Usage(k.podCgroup(w))
		c.Memory, c.Pids = usage.WorkingSet, usage.Pids
		if met.Signal.Disk() {
			c.Disk = k.podDisk(w)
		}
		candidates = append(candidates, c)
		byID[c.ID] = w
	}
	victim := eviction.Choose(candidates, met)
	if victim == nil {
		return
	}
	grace := time.Duration(0)
	if met.Soft {
		grace = time.Duration(k.config.Settings.EvictionMaxPodGracePeriod) * time.Second
	}
	k.evict(byID[victim.ID], victim.Message, grace)
}

// evict ends a pod for the node's sake.
func (k *Kubelet) evict(w *worker, message string, grace time.Duration) {
	w.post(func() {
		w.event(w.machine.Pod(), "", corev1.EventTypeWarning, "Evicted", message)
		w.machine.Terminate(pod.End{Reason: "Evicted", Message: message, Grace: &grace, Conditions: []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: message,
		}}})
	})
}

// podCgroup is a pod's cgroup relative to the tree's root.
func (k *Kubelet) podCgroup(w *worker) string {
	return k.cgroups.PodPath(w.uid, w.qos)[len(k.config.CgroupRoot):]
}

// podDisk is what a pod's scratch space and logs take, in bytes.
func (k *Kubelet) podDisk(w *worker) uint64 {
	total := uint64(0)
	for _, u := range k.volumes.Usage(w.uid, usageAge) {
		if v := findVolume(w.view.Load().pod, u.Volume); v != nil && v.EmptyDir != nil && v.EmptyDir.Medium != corev1.StorageMediumMemory {
			total += u.Used
		}
	}
	logs, _ := volumes.DiskUsage(k.podLogs(w))
	return total + logs
}

// checkLocalStorage evicts pods that use more than an emptyDir or their ephemeral-storage limits allow. Only pods that have
// such a limit are measured.
func (k *Kubelet) checkLocalStorage() {
	if !*k.config.Settings.LocalStorageCapacityIsolation {
		return
	}
	for _, w := range k.all() {
		v := w.view.Load()
		if v.stage != pod.Syncing || v.status.Phase != corev1.PodRunning {
			continue
		}
		if message := k.overStorage(w, v.pod); message != "" {
			k.evict(w, message, 0)
		}
	}
}

func (k *Kubelet) overStorage(w *worker, p *corev1.Pod) string {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		if used := k.volumes.EmptyDirUsage(w.uid, v.Name, pressureSample); used > uint64(v.EmptyDir.SizeLimit.Value()) {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String())
		}
	}
	limit := int64(0)
	for i := range p.Spec.Containers {
		q, ok := p.Spec.Containers[i].Resources.Limits[corev1.ResourceEphemeralStorage]
		if !ok {
			return ""
		}
		limit += q.Value()
	}
	if limit == 0 {
		return ""
	}
	if used := k.podDisk(w); used > uint64(limit) {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %d. ", limit)
	}
	return ""
}
