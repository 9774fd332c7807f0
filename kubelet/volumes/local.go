// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	corev1 "k8s.io/api/core/v1"

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
		if err := ensureTmpfs(dir, data); err != nil {
			return err
		}
	default:
		return fmt.Errorf("storage medium %q is not supported by this node", medium)
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
