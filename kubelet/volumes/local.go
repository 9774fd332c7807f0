// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"kogge.dev/kogge/rules/podresource"
)

// mountEmptyDir makes a pod's scratch folder, on the node's disk or in memory.
func (v *Volumes) mountEmptyDir(p *corev1.Pod, vol *corev1.Volume) error {
	dir := v.dir(p.UID, pluginEmptyDir, vol.Name)
	_, err := os.Stat(dir)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	switch medium := vol.EmptyDir.Medium; medium {
	case corev1.StorageMediumDefault:
	case corev1.StorageMediumMemory:
		data := ""
		if size := v.memorySize(p, vol.EmptyDir); size > 0 {
			data = fmt.Sprintf("size=%d", size)
		}
		if err := ensureMemory(dir, "tmpfs", unix.TMPFS_MAGIC, data); err != nil {
			return err
		}
	default:
		size, err := hugePageSize(p, medium)
		if err != nil {
			return err
		}
		if err := ensureMemory(dir, "hugetlbfs", unix.HUGETLBFS_MAGIC, fmt.Sprintf("pagesize=%d", size)); err != nil {
			return err
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		return err
	}
	if group := fsGroup(p); group != nil {
		if !fresh { // it may hold what the pod made, with modes of its own
			return ownIfMismatched(dir, *group)
		}
		return own(dir, *group, false)
	}
	return nil
}

// memorySize bounds a memory-backed folder by its own limit, the pod's memory limit and the node's memory.
func (v *Volumes) memorySize(p *corev1.Pod, s *corev1.EmptyDirVolumeSource) int64 {
	size := v.config.MemoryCapacity
	limits := podresource.SpecLimits(p)
	if limit := limits.Memory().Value(); limit > 0 && (size == 0 || limit < size) {
		size = limit
	}
	if s.SizeLimit != nil {
		if own := s.SizeLimit.Value(); own > 0 && (size == 0 || own < size) {
			size = own
		}
	}
	return size
}

// hugePageSize returns the size in bytes of the pages that a folder of huge pages is made of: what the medium names, which the pod
// must ask for, or the only size that the pod asks for.
func hugePageSize(p *corev1.Pod, medium corev1.StorageMedium) (int64, error) {
	named, precise := strings.CutPrefix(string(medium), string(corev1.StorageMediumHugePagesPrefix))
	if !precise && medium != corev1.StorageMediumHugePages {
		return 0, fmt.Errorf("storage medium %q is not supported by this node", medium)
	}
	var want int64
	if precise {
		q, err := resource.ParseQuantity(named)
		if err != nil {
			return 0, fmt.Errorf("storage medium %q: %w", medium, err)
		}
		want = q.Value()
	}
	sizes := map[int64]bool{}
	for name := range podresource.SpecRequests(p) {
		if text, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix); ok {
			if q, err := resource.ParseQuantity(text); err == nil {
				sizes[q.Value()] = true
			}
		}
	}
	switch {
	case precise && !sizes[want]:
		return 0, fmt.Errorf("medium %s, but the pod requests no huge pages of that size", medium)
	case precise:
		return want, nil
	case len(sizes) != 1:
		return 0, fmt.Errorf("medium %s needs a request of huge pages of exactly one size, the pod has %d", medium, len(sizes))
	}
	for size := range sizes {
		want = size
	}
	return want, nil
}

// checkHostPath checks, and where the type says so makes, a path of the node.
func checkHostPath(s *corev1.HostPathVolumeSource) error {
	if s.Type == nil || *s.Type == corev1.HostPathUnset {
		return nil
	}
	kind := *s.Type
	info, err := os.Stat(s.Path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	switch {
	case missing && kind == corev1.HostPathDirectoryOrCreate:
		return os.MkdirAll(s.Path, 0o755)
	case missing && kind == corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(s.Path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	}
	for _, c := range []struct {
		types []corev1.HostPathType
		is    func(fs.FileMode) bool
		what  string
	}{
		{[]corev1.HostPathType{corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate}, fs.FileMode.IsDir, "directory"},
		{[]corev1.HostPathType{corev1.HostPathFile, corev1.HostPathFileOrCreate}, fs.FileMode.IsRegular, "file"},
		{[]corev1.HostPathType{corev1.HostPathSocket}, func(m fs.FileMode) bool { return m&fs.ModeSocket != 0 }, "socket file"},
		{[]corev1.HostPathType{corev1.HostPathCharDev}, func(m fs.FileMode) bool { return m&fs.ModeCharDevice != 0 }, "character device"},
		{[]corev1.HostPathType{corev1.HostPathBlockDev}, func(m fs.FileMode) bool { return m&fs.ModeDevice != 0 && m&fs.ModeCharDevice == 0 }, "block device"},
	} {
		if slices.Contains(c.types, kind) && (missing || !c.is(info.Mode())) {
			return fmt.Errorf("hostPath type check failed: %s is not a %s", s.Path, c.what)
		}
	}
	return nil
}
