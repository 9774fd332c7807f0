// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ensureMemory mounts a file system in memory on dir, of a kind with a magic number, unless there is one.
func ensureMemory(dir, kind string, magic int64, data string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("stat %s: %w", dir, err)
	}
	mounted, err := isMountPoint(dir)
	if err != nil {
		return err
	}
	if mounted && st.Type == magic {
		return nil
	}
	if err := unix.Mount(kind, dir, kind, 0, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, dir, err)
	}
	return nil
}

// isMountPoint compares a folder's device with its parent's, which is enough for what this package mounts on folders of its
// own, and falls back to the mount table for bind mounts of the same file system.
func isMountPoint(dir string) (bool, error) {
	var own, parent unix.Stat_t
	if err := unix.Lstat(dir, &own); err != nil {
		return false, fmt.Errorf("stat %s: %w", dir, err)
	}
	if err := unix.Lstat(filepath.Dir(dir), &parent); err != nil {
		return false, fmt.Errorf("stat %s: %w", filepath.Dir(dir), err)
	}
	if own.Dev != parent.Dev {
		return true, nil
	}
	points, err := mountPoints(dir)
	return slices.Contains(points, dir), err
}

// mountPoints lists the mount points at or below a path, in the order in which they were made.
func mountPoints(below string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	scan := bufio.NewScanner(f)
	scan.Buffer(make([]byte, 0, 64<<10), 1<<20)
	for scan.Scan() {
		fields := strings.Fields(scan.Text())
		if len(fields) < 5 {
			continue
		}
		point := unescape(fields[4])
		if point == below || strings.HasPrefix(point, below+"/") {
			out = append(out, point)
		}
	}
	return out, scan.Err()
}

// Share makes a folder one whose mounts propagate to containers and back, which drivers that mount for other pods rely on. Where
// the file system that it lies on is not shared, the folder is bound onto itself.
func Share(dir string) error {
	shared, err := isShared(dir)
	if err != nil || shared {
		return err
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s onto itself: %w", dir, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return errors.Join(fmt.Errorf("share mounts of %s: %w", dir, err), unix.Unmount(dir, unix.MNT_DETACH))
	}
	return nil
}

// isShared reads the propagation of the mount that a folder lies on: the last one in the table of those with the longest path.
func isShared(dir string) (bool, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	longest, shared := "", false
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 7 {
			continue
		}
		point := unescape(fields[4])
		within := point == "/" || point == dir || strings.HasPrefix(dir, point+"/")
		if !within || len(point) < len(longest) {
			continue
		}
		options, _, _ := strings.Cut(strings.Join(fields[6:], " "), " - ")
		longest, shared = point, strings.Contains(options, "shared:")
	}
	return shared, nil
}

// unescape undoes the octal escapes of mount tables.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// unmountBelow unmounts everything at or below a path, the newest mounts first.
func unmountBelow(path string) error {
	points, err := mountPoints(path)
	if err != nil {
		return fmt.Errorf("read mount table: %w", err)
	}
	slices.Reverse(points)
	var errs []error
	for _, point := range points {
		if err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			if errors.Is(err, unix.EBUSY) {
				// A process that is about to end still stands in it; its view stays valid until then.
				err = unix.Unmount(point, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
			}
		}
	}
	return errors.Join(errs...)
}

// bind mounts what an open file refers to on target, which exists.
func bind(fd int, target string) error {
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), target, "", unix.MS_BIND|unix.MS_REC, "")
}

// Subpath returns a path by which a runtime can mount part of a volume without following a link out of it: the part is opened
// beneath the volume and bind-mounted in a folder of the pod. A missing sub-path is made as a folder.
func (v *Volumes) Subpath(uid, volume, root, sub, container string, index int) (string, error) {
	if filepath.IsAbs(sub) || slices.Contains(strings.Split(sub, "/"), "..") {
		return "", fmt.Errorf("subPath %q must be a relative path without '..'", sub)
	}
	fd, err := openBeneath(root, sub)
	if err != nil {
		return "", fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", volume, container, err)
	}
	defer unix.Close(fd)
	target := filepath.Join(v.config.Root, "pods", uid, subpathFolder, volume, container, fmt.Sprint(index))
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if err := unmountBelow(target); err != nil { // of a former instance of the container
		return "", err
	}
	if err := os.RemoveAll(target); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.Mkdir(target, 0o750)
	} else {
		err = os.WriteFile(target, nil, 0o640)
	}
	if err != nil {
		return "", err
	}
	if err := bind(fd, target); err != nil {
		return "", fmt.Errorf("bind subPath %q: %w", sub, err)
	}
	return target, nil
}

// openBeneath opens a path below root that no link leads out of, making missing folders.
func openBeneath(root, sub string) (int, error) {
	base, err := unix.Open(root, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(base)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(base, sub, how)
	if !errors.Is(err, unix.ENOENT) {
		return fd, wrapBeneath(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(base, &st); err != nil {
		return -1, err
	}
	mode := st.Mode & 0o7777
	for i := range strings.Split(sub, "/") {
		part := strings.Join(strings.Split(sub, "/")[:i+1], "/")
		if fd, err := unix.Openat2(base, part, how); err == nil {
			unix.Close(fd)
			continue
		}
		parent := base
		if dir := filepath.Dir(part); dir != "." {
			if parent, err = unix.Openat2(base, dir, how); err != nil {
				return -1, wrapBeneath(err)
			}
		}
		err := unix.Mkdirat(parent, filepath.Base(part), mode)
		if err == nil {
			err = unix.Fchmodat(parent, filepath.Base(part), mode, 0) // the umask took bits away
		}
		if parent != base {
			unix.Close(parent)
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, err
		}
	}
	fd, err = unix.Openat2(base, sub, how)
	return fd, wrapBeneath(err)
}

func wrapBeneath(err error) error {
	if errors.Is(err, unix.EXDEV) {
		return errors.New("subpath is not within the volume path")
	}
	return err
}
