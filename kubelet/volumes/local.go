// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

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
	switch medium := vol.EmptyDir.Medium; {
	case medium == corev1.StorageMediumDefault:
	case medium == corev1.StorageMediumMemory:
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
	switch kind {
	case corev1.HostPathDirectoryOrCreate:
		if missing {
			return os.MkdirAll(s.Path, 0o755)
		}
	case corev1.HostPathFileOrCreate:
		if missing {
			f, err := os.OpenFile(s.Path, os.O_CREATE|os.O_RDONLY, 0o644)
			if err != nil {
				return err
			}
			return f.Close()
		}
	case corev1.HostPathDirectory, corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev, corev1.HostPathUnset:
	}
	fail := func(what string) error { return fmt.Errorf("hostPath type check failed: %s is not a %s", s.Path, what) }
	var mode fs.FileMode
	if !missing {
		mode = info.Mode()
	}
	switch kind {
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		if missing || !mode.IsDir() {
			return fail("directory")
		}
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		if missing || !mode.IsRegular() {
			return fail("file")
		}
	case corev1.HostPathSocket:
		if missing || mode&fs.ModeSocket == 0 {
			return fail("socket file")
		}
	case corev1.HostPathCharDev:
		if missing || mode&fs.ModeCharDevice == 0 {
			return fail("character device")
		}
	case corev1.HostPathBlockDev:
		if missing || mode&fs.ModeDevice == 0 || mode&fs.ModeCharDevice != 0 {
			return fail("block device")
		}
	case corev1.HostPathUnset:
	}
	return nil
}
