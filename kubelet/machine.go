// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"kogge.dev/kogge/kinds/catalog"
)

// machine is what the kubelet knows of the hardware and the operating system. It does not change while the process runs.
type machine struct {
	cpus      int
	memory    uint64            // bytes
	hugepages map[string]uint64 // bytes per page size as the API names it, "2Mi"
	info      corev1.NodeSystemInfo
}

func readMachine() machine {
	m := machine{cpus: runtime.NumCPU(), memory: meminfo()["MemTotal"], hugepages: map[string]uint64{}}
	entries, err := os.ReadDir("/sys/kernel/mm/hugepages")
	if err == nil {
		for _, e := range entries {
			size, ok := strings.CutPrefix(e.Name(), "hugepages-")
			kb, convErr := strconv.ParseUint(strings.TrimSuffix(size, "kB"), 10, 64)
			if !ok || convErr != nil {
				continue
			}
			pages := readNumber(filepath.Join("/sys/kernel/mm/hugepages", e.Name(), "nr_hugepages"))
			m.hugepages[resource.NewQuantity(int64(kb<<10), resource.BinarySI).String()] = pages * kb << 10
		}
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		m.info.KernelVersion = unix.ByteSliceToString(uts.Release[:])
	}
	m.info.MachineID = readLine("/etc/machine-id")
	m.info.BootID = readLine("/proc/sys/kernel/random/boot_id")
	m.info.SystemUUID = readLine("/sys/class/dmi/id/product_uuid")
	if m.info.SystemUUID == "" {
		m.info.SystemUUID = m.info.MachineID
	}
	m.info.OperatingSystem, m.info.Architecture = runtime.GOOS, runtime.GOARCH
	m.info.OSImage = "Unknown"
	for line := range strings.SplitSeq(readFile("/etc/os-release"), "\n") {
		if value, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			m.info.OSImage = strings.Trim(value, `"`)
		}
	}
	return m
}

func readFile(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(data)
}

func readLine(path string) string { return strings.TrimSpace(readFile(path)) }

func readNumber(path string) uint64 {
	n, err := strconv.ParseUint(readLine(path), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// meminfo returns the kernel's memory figures in bytes.
func meminfo() map[string]uint64 {
	out := map[string]uint64{}
	for line := range strings.SplitSeq(readFile("/proc/meminfo"), "\n") {
		name, rest, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64); err == nil {
			out[name] = n << 10
		}
	}
	return out
}

// filesystem is the state of a file system, in bytes and inodes.
type filesystem struct {
	total, available, inodes, free uint64
}

func statFilesystem(path string) filesystem {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return filesystem{}
	}
	size := uint64(st.Bsize)
	return filesystem{total: st.Blocks * size, available: st.Bavail * size, inodes: st.Files, free: st.Ffree}
}

// capacity is all that the node has.
func (k *Kubelet) capacity() corev1.ResourceList {
	out := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(int64(k.machine.cpus)*1000, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(int64(k.machine.memory), resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(int64(k.maxPods()), resource.DecimalSI),
	}
	if fs := statFilesystem(existing(k.config.Root)); fs.total > 0 {
		out[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(int64(fs.total), resource.BinarySI)
	}
	for size, bytes := range k.machine.hugepages {
		out[corev1.ResourceName(corev1.ResourceHugePagesPrefix+size)] = *resource.NewQuantity(int64(bytes), resource.BinarySI)
	}
	return out
}

func (k *Kubelet) maxPods() int32 {
	if perCore := k.config.Settings.PodsPerCore; perCore > 0 {
		return min(k.config.Settings.MaxPods, perCore*int32(k.machine.cpus))
	}
	return k.config.Settings.MaxPods
}

// existing returns the nearest folder above path that exists.
func existing(path string) string {
	for path != "/" {
		if _, err := os.Stat(path); err == nil {
			return path
		}
		path = filepath.Dir(path)
	}
	return path
}

// allocatable is what pods may ask for: capacity less what is reserved and what eviction keeps free.
func (k *Kubelet) allocatable() corev1.ResourceList {
	out := k.capacity()
	take := func(name corev1.ResourceName, q resource.Quantity) {
		have, ok := out[name]
		if !ok {
			return
		}
		have.Sub(q)
		if have.Sign() < 0 {
			have = resource.MustParse("0")
		}
		out[name] = have
	}
	for _, reserved := range []map[string]string{k.config.Settings.KubeReserved, k.config.Settings.SystemReserved} {
		for name, value := range reserved {
			if q, err := resource.ParseQuantity(value); err == nil {
				take(corev1.ResourceName(name), q)
			}
		}
	}
	for signal, name := range map[string]corev1.ResourceName{"memory.available": corev1.ResourceMemory, "nodefs.available": corev1.ResourceEphemeralStorage} {
		total := out[name]
		take(name, *resource.NewQuantity(int64(threshold(k.config.Settings.EvictionHard[signal], uint64(total.Value()))), resource.BinarySI))
	}
	for size, bytes := range k.machine.hugepages {
		take(corev1.ResourceMemory, *resource.NewQuantity(int64(bytes), resource.BinarySI))
		_ = size
	}
	return out
}

// threshold turns "10%" or a quantity into bytes or inodes of a total.
func threshold(text string, total uint64) uint64 {
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		f, err := strconv.ParseFloat(percent, 64)
		if err != nil {
			return 0
		}
		return uint64(f / 100 * float64(total))
	}
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return 0
	}
	return uint64(q.Value())
}

// defaultPod fills in a manifest what the API server would.
func (k *Kubelet) defaultPod(p *corev1.Pod) {
	kinds := catalog.New()
	if k.client != nil {
		kinds = k.client.Catalog()
	}
	if kind, _ := kinds.ByType(p); kind != nil && kind.Default != nil {
		kind.Default(p)
	}
}

// allocatableCPU is what pods may ask for, in thousandths.
func (k *Kubelet) allocatableCPU() int64 {
	list := k.allocatable()
	return list.Cpu().MilliValue()
}
