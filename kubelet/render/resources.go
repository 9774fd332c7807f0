// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The kernel's bounds of cgroup v1's cpu.shares and of CFS quotas, in microseconds.
const (
	minShares = 2
	maxShares = 262144
	minQuota  = 1000
)

// Limits says how resources become cgroup values.
type Limits struct {
	// Quota turns CPU limits into CFS quotas, over Period microseconds.
	Quota  bool
	Period int64
	// MemoryCapacity of the node in bytes scales OOM scores.
	MemoryCapacity int64
	// Unified is set on cgroup v2.
	Unified bool
	// SingleProcessOOMKill spares a container's other processes when one is killed (always so on cgroup v1).
	SingleProcessOOMKill bool
}

// Shares converts thousandths of a CPU to cgroup v1's cpu.shares.
func Shares(milli int64) int64 {
	return min(max(milli*1024/1000, minShares), maxShares)
}

// Quota converts thousandths of a CPU to a CFS quota in microseconds; zero stays zero, which means none.
func Quota(milli, period int64) int64 {
	if milli == 0 {
		return 0
	}
	return max(milli*period/1000, minQuota)
}

// Container returns the cgroup values of one container.
func (l Limits) Container(p *corev1.Pod, c *corev1.Container, qos corev1.PodQOSClass) *runtimeapi.LinuxContainerResources {
	limit := func(name corev1.ResourceName) *resource.Quantity {
		if q, ok := c.Resources.Limits[name]; ok && !q.IsZero() {
			return &q
		}
		if p.Spec.Resources != nil {
			if q, ok := p.Spec.Resources.Limits[name]; ok {
				return &q
			}
		}
		return &resource.Quantity{}
	}
	cpuLimit, memoryLimit := limit(corev1.ResourceCPU), limit(corev1.ResourceMemory)
	request, requested := c.Resources.Requests[corev1.ResourceCPU]
	if !requested {
		request = *cpuLimit
	}
	out := &runtimeapi.LinuxContainerResources{CpuShares: Shares(request.MilliValue()), OomScoreAdj: l.OOMScore(p, c, qos)}
	if m := memoryLimit.Value(); m != 0 {
		out.MemoryLimitInBytes = m
	}
	if l.Quota {
		out.CpuPeriod, out.CpuQuota = l.Period, Quota(cpuLimit.MilliValue(), l.Period)
	}
	if l.Unified && !l.SingleProcessOOMKill {
		out.Unified = map[string]string{"memory.oom.group": "1"}
	}
	out.HugepageLimits = hugepages(c.Resources.Limits)
	return out
}

func hugepages(limits corev1.ResourceList) []*runtimeapi.HugepageLimit {
	var out []*runtimeapi.HugepageLimit
	for name, q := range limits {
		if size, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix); ok {
			if parsed, err := resource.ParseQuantity(size); err == nil {
				out = append(out, &runtimeapi.HugepageLimit{PageSize: pageSize(parsed.Value()), Limit: uint64(q.Value())})
			}
		}
	}
	return out
}

// pageSize names a huge page size as cgroups do: 2MB, 1GB.
func pageSize(bytes int64) string {
	units := []string{"B", "KB", "MB", "GB"}
	i := 0
	for bytes >= 1024 && i < len(units)-1 {
		bytes /= 1024
		i++
	}
	return fmt.Sprintf("%d%s", bytes, units[i])
}

// OOMScore says how readily the kernel kills a container for want of memory: those that use more than they asked for first.
func (l Limits) OOMScore(p *corev1.Pod, c *corev1.Container, qos corev1.PodQOSClass) int64 {
	const guaranteed, bestEffort = -997, 1000
	const systemNodeCritical = 2000001000
	if p.Spec.Priority != nil && *p.Spec.Priority >= systemNodeCritical {
		return guaranteed
	}
	switch qos {
	case corev1.PodQOSGuaranteed:
		return guaranteed
	case corev1.PodQOSBestEffort:
		return bestEffort
	case corev1.PodQOSBurstable:
	}
	if l.MemoryCapacity == 0 {
		return bestEffort - 1
	}
	request := c.Resources.Requests.Memory().Value()
	score := bestEffort - 1000*request/l.MemoryCapacity
	if score < 1000+guaranteed {
		return 1000 + guaranteed
	}
	if score == bestEffort {
		return score - 1
	}
	return score
}
