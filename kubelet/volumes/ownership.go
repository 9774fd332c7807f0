// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

func onRootMismatch(p *corev1.Pod) bool {
	sc := p.Spec.SecurityContext
	return sc != nil && sc.FSGroupChangePolicy != nil && *sc.FSGroupChangePolicy == corev1.FSGroupChangeOnRootMismatch
}

// own gives a tree to a group, readable (and unless readOnly writable) by it, with folders that pass the group on.
func own(root string, group int64, readOnly bool) error {
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return ownEntry(p, group, readOnly, d.IsDir())
	})
}

func ownEntry(p string, group int64, readOnly, dir bool) error {
	info, err := os.Lstat(p)
	if err != nil {
		return err
	}
	if err := os.Lchown(p, -1, int(group)); err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil // a link has no mode of its own
	}
	bits := fs.FileMode(0o660)
	if readOnly {
		bits = 0o440
	}
	mode := info.Mode().Perm() | bits | info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)
	if dir {
		mode |= fs.ModeSetgid | 0o110
	}
	return os.Chmod(p, mode)
}

// ownIfMismatched changes a tree only if its root does not yet belong to the group as it should.
func ownIfMismatched(root string, group int64) error {
	info, err := os.Stat(root)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int64(st.Gid) == group && info.Mode().Perm()&0o770 == 0o770 && info.Mode()&fs.ModeSetgid != 0 {
		return nil
	}
	return own(root, group, false)
}
