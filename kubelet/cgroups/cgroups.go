// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package cgroups keeps the node's tree of pod cgroups, on cgroup v1 and v2:
//
//	<root>/kubepods                     what pods may use together
//	<root>/kubepods/pod<uid>            a guaranteed pod
//	<root>/kubepods/burstable/pod<uid>
//	<root>/kubepods/besteffort/pod<uid>
//
// The runtime makes the containers' cgroups below a pod's. Nothing outside the root is ever touched.
package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	oc "github.com/opencontainers/cgroups"
	v1 "github.com/opencontainers/cgroups/fs"
	v2 "github.com/opencontainers/cgroups/fs2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/kubelet/render"
	"kogge.dev/kogge/rules/podresource"
)

// Config says where the tree lies and what it is allowed.
type Config struct {
	// Root is the path of the tree in the hierarchies, "/kogge/<node>". Required.
	Root string
	// Mount is where the hierarchies are mounted.
	Mount string
	// CPU (thousandths) and Memory (bytes) are what all pods may use together; zero leaves it open.
	CPU, Memory int64
	// Pids bounds each pod's processes; zero or less leaves it open.
	Pids int64
	// Off makes no cgroups: the runtime puts containers where it likes, and nothing bounds a pod as a whole.
	Off bool
	// Quota and Period (microseconds) turn CPU limits into CFS quotas.
	Quota  bool
	Period int64
}

// Tree is the tree of one node. It is safe for concurrent use.
type Tree struct {
	config  Config
	unified bool

	mu sync.Mutex
	// burstable holds each burstable pod's CPU request in thousandths: their sum weighs the class against the others.
	burstable map[types.UID]int64
	weight    uint64 // what the class has now
}

// New returns the tree, which Setup makes.
func New(config Config) *Tree {
	return &Tree{config: config, unified: oc.IsCgroup2UnifiedMode(), burstable: map[types.UID]int64{}}
}

// Unified reports whether the machine has cgroup v2 only.
func (t *Tree) Unified() bool { return t.unified }

// Setup makes the upper levels.
func (t *Tree) Setup() error {
	all := &oc.Resources{SkipDevices: true, CpuShares: uint64(render.Shares(t.config.CPU)), Memory: t.config.Memory}
	if t.config.CPU == 0 {
		all.CpuShares = 1024
	}
	if err := t.apply(path.Join(t.config.Root, "kubepods"), all); err != nil {
		return err
	}
	for _, class := range []string{"burstable", "besteffort"} {
		if err := t.apply(path.Join(t.config.Root, "kubepods", class), &oc.Resources{SkipDevices: true, CpuShares: 2}); err != nil {
			return err
		}
	}
	return nil
}

// Parent is the cgroup that a pod's sandbox is made in; empty if the runtime chooses.
func (t *Tree) Parent(uid types.UID, class corev1.PodQOSClass) string {
	if t.config.Off {
		return ""
	}
	return t.PodPath(uid, class)
}

// PodPath is a pod's cgroup.
func (t *Tree) PodPath(uid types.UID, class corev1.PodQOSClass) string {
	base := path.Join(t.config.Root, "kubepods")
	switch class {
	case corev1.PodQOSBurstable:
		base = path.Join(base, "burstable")
	case corev1.PodQOSBestEffort:
		base = path.Join(base, "besteffort")
	case corev1.PodQOSGuaranteed:
	}
	return path.Join(base, "pod"+string(uid))
}

// Ensure makes a pod's cgroup, or gives it the values of a changed specification.
func (t *Tree) Ensure(p *corev1.Pod, class corev1.PodQOSClass) error {
	r := t.podResources(p, class)
	if class == corev1.PodQOSBurstable {
		requests := podresource.SpecRequests(p)
		if err := t.reweigh(p.UID, requests.Cpu().MilliValue()); err != nil {
			return err
		}
	}
	return t.apply(t.PodPath(p.UID, class), r)
}

// Widen raises a pod's bounds to those of a changed specification without lowering any, for the time in which its containers
// change one by one.
func (t *Tree) Widen(p *corev1.Pod, class corev1.PodQOSClass) error {
	r := t.podResources(p, class)
	now := t.read(t.PodPath(p.UID, class))
	if r.Memory > 0 && now.MemoryLimit > uint64(r.Memory) {
		r.Memory = int64(now.MemoryLimit)
	}
	if r.CpuQuota > 0 {
		r.CpuQuota = -1
	}
	return t.apply(t.PodPath(p.UID, class), r)
}

// podResources bounds a pod by the sum of its containers' limits, where every container has one.
func (t *Tree) podResources(p *corev1.Pod, class corev1.PodQOSClass) *oc.Resources {
	r := &oc.Resources{SkipDevices: true, CpuShares: 2}
	if t.config.Pids > 0 {
		pids := t.config.Pids
		r.PidsLimit = &pids
	}
	if class == corev1.PodQOSBestEffort {
		return r
	}
	requests := podresource.SpecRequests(p)
	limits := podresource.SpecLimits(p)
	r.CpuShares = uint64(render.Shares(requests.Cpu().MilliValue()))
	if t.config.Quota && (allLimited(p, corev1.ResourceCPU) || podLimited(p, corev1.ResourceCPU)) {
		r.CpuPeriod = uint64(t.config.Period)
		r.CpuQuota = render.Quota(limits.Cpu().MilliValue(), t.config.Period)
	}
	if allLimited(p, corev1.ResourceMemory) || podLimited(p, corev1.ResourceMemory) {
		r.Memory = limits.Memory().Value()
	}
	return r
}

func podLimited(p *corev1.Pod, name corev1.ResourceName) bool {
	if p.Spec.Resources == nil {
		return false
	}
	_, ok := p.Spec.Resources.Limits[name]
	return ok
}

func allLimited(p *corev1.Pod, name corev1.ResourceName) bool {
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			if q, ok := list[i].Resources.Limits[name]; !ok || q.IsZero() {
				return false
			}
		}
	}
	return true
}

// reweigh sets the burstable class's share to the sum of its pods' requests; a negative request forgets the pod.
func (t *Tree) reweigh(uid types.UID, milli int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if milli < 0 {
		delete(t.burstable, uid)
	} else {
		t.burstable[uid] = milli
	}
	sum := int64(0)
	for _, m := range t.burstable {
		sum += m
	}
	weight := uint64(render.Shares(sum))
	if weight == t.weight {
		return nil
	}
	if err := t.apply(path.Join(t.config.Root, "kubepods", "burstable"), &oc.Resources{SkipDevices: true, CpuShares: weight}); err != nil {
		return err
	}
	t.weight = weight
	return nil
}

func (t *Tree) apply(cgroup string, r *oc.Resources) error {
	if t.config.Off {
		return nil
	}
	config := &oc.Cgroup{Path: cgroup, Resources: r}
	var m oc.Manager
	var err error
	if t.unified {
		r.CpuWeight = oc.ConvertCPUSharesToCgroupV2Value(r.CpuShares)
		m, err = v2.NewManager(config, filepath.Join(t.config.Mount, cgroup))
	} else {
		m, err = v1.NewManager(config, nil)
	}
	if err != nil {
		return fmt.Errorf("cgroup %s: %w", cgroup, err)
	}
	if err := m.Apply(-1); err != nil {
		return fmt.Errorf("make cgroup %s: %w", cgroup, err)
	}
	if err := m.Set(r); err != nil {
		return fmt.Errorf("set cgroup %s: %w", cgroup, err)
	}
	return nil
}

// Remove kills what is left in a pod's cgroup, of whatever class it was, and removes it. A missing cgroup is no error; one
// whose processes have not yet gone is, and Remove is to be called again.
func (t *Tree) Remove(uid types.UID) error {
	if t.config.Off {
		return nil
	}
	var errs []error
	for _, class := range []corev1.PodQOSClass{corev1.PodQOSGuaranteed, corev1.PodQOSBurstable, corev1.PodQOSBestEffort} {
		for _, dir := range t.dirs(t.PodPath(uid, class)) {
			errs = append(errs, removeTree(dir))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove cgroup of pod %s: %w", uid, err)
	}
	return t.reweigh(uid, -1)
}

// Sweep kills what is left of a container that the runtime says has ended, and removes its cgroup. A runtime that lost track of a
// process while it restarted would otherwise let two instances run.
func (t *Tree) Sweep(uid types.UID, class corev1.PodQOSClass, container string) error {
	if t.config.Off {
		return nil
	}
	var errs []error
	for _, dir := range t.dirs(path.Join(t.PodPath(uid, class), container)) {
		errs = append(errs, removeTree(dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove cgroup of ended container %s: %w", container, err)
	}
	return nil
}

// dirs returns the directories of a cgroup in all hierarchies.
func (t *Tree) dirs(cgroup string) []string {
	if t.unified {
		return []string{filepath.Join(t.config.Mount, cgroup)}
	}
	entries, err := os.ReadDir(t.config.Mount)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, filepath.Join(t.config.Mount, e.Name(), cgroup))
		}
	}
	return out
}

// removeTree removes a cgroup with all below it, the deepest first, killing what still runs there.
func removeTree(dir string) error {
	var all []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			all = append(all, p)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	slices.Reverse(all)
	for _, d := range all {
		if err := os.Remove(d); err == nil || errors.Is(err, fs.ErrNotExist) {
			continue
		} else if !errors.Is(err, syscall.EBUSY) {
			return err
		}
		kill(d)
		if err := os.Remove(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func kill(dir string) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone already is as good
		}
	}
}

// Pods lists the uids that have a cgroup.
func (t *Tree) Pods() []types.UID {
	if t.config.Off {
		return nil
	}
	seen := map[types.UID]bool{}
	for _, class := range []string{"", "burstable", "besteffort"} {
		for _, dir := range t.dirs(path.Join(t.config.Root, "kubepods", class)) {
			entries, err := os.ReadDir(dir)
			if err != nil {
				continue
			}
			for _, e := range entries {
				if uid, ok := strings.CutPrefix(e.Name(), "pod"); ok && e.IsDir() {
					seen[types.UID(uid)] = true
				}
			}
		}
	}
	out := make([]types.UID, 0, len(seen))
	for uid := range seen {
		out = append(out, uid)
	}
	return out
}
