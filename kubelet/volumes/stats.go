// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// Usage is what a volume uses and what its file system has, in bytes and inodes.
type Usage struct {
	Volume                   string
	Used, Available, Total   uint64
	Inodes, Free, UsedInodes uint64
}

// measured is a folder's size, which costs a walk and so is kept for a while.
type measured struct {
	at            time.Time
	bytes, inodes uint64
}

// Usage measures a pod's volumes that live on the node, each at most once per maxAge.
func (v *Volumes) Usage(uid types.UID, maxAge time.Duration) []Usage {
	var out []Usage
	dirs, err := filepath.Glob(filepath.Join(v.podDir(uid), "volumes", "*", "*"))
	if err != nil {
		return nil
	}
	for _, dir := range dirs {
		path := dir
		if filepath.Base(filepath.Dir(dir)) == pluginCSI {
			path = filepath.Join(dir, "mount")
		}
		var st unix.Statfs_t
		if unix.Statfs(path, &st) != nil {
			continue
		}
		m := v.measure(path, maxAge)
		size := uint64(st.Bsize)
		out = append(out, Usage{
			Volume: filepath.Base(dir), Used: m.bytes, Available: st.Bavail * size, Total: st.Blocks * size, Inodes: st.Files, Free: st.Ffree, UsedInodes: m.inodes,
		})
	}
	return out
}

func (v *Volumes) measure(path string, maxAge time.Duration) measured {
	v.mu.Lock()
	m, ok := v.sizes[path]
	v.mu.Unlock()
	if ok && time.Since(m.at) < maxAge {
		return m
	}
	m = measured{at: time.Now()}
	m.bytes, m.inodes = DiskUsage(path)
	v.mu.Lock()
	v.sizes[path] = m
	v.mu.Unlock()
	return m
}

// DiskUsage sums what a tree takes on its own file system; hard links count once.
func DiskUsage(root string) (bytes, inodes uint64) {
	seen := map[uint64]bool{}
	var device uint64
	// What vanishes while it is measured takes nothing
	_ = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if device == 0 {
			device = st.Dev
		}
		if st.Dev != device {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if seen[st.Ino] {
			return nil
		}
		seen[st.Ino] = true
		bytes += uint64(st.Blocks) * 512
		inodes++
		return nil
	})
	return bytes, inodes
}

// EmptyDirUsage returns how many bytes an emptyDir volume holds.
func (v *Volumes) EmptyDirUsage(uid types.UID, name string, maxAge time.Duration) uint64 {
	dir := v.dir(uid, pluginEmptyDir, name)
	if _, err := os.Lstat(dir); err != nil {
		return 0
	}
	return v.measure(dir, maxAge).bytes
}
