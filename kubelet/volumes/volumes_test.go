// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"kogge.dev/kogge/internal/need"
)

func TestContentIsReplacedAtOnce(t *testing.T) {
	dir := t.TempDir()
	write := func(files map[string]file) bool {
		t.Helper()
		changed, err := writeAtomically(dir, files, nil)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	read := func(name string) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "error: " + err.Error()
		}
		return string(data)
	}
	first := map[string]file{"a": {data: []byte("1"), mode: 0o644}, "d/b": {data: []byte("2"), mode: 0o400}}
	if !write(first) || read("a") != "1" || read("d/b") != "2" {
		t.Fatalf("first content is not there")
	}
	info, err := os.Stat(filepath.Join(dir, "d/b"))
	if err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("mode of d/b = %v, %v, want 0400", info.Mode(), err)
	}
	if write(first) {
		t.Error("the same content was written again")
	}
	if !write(map[string]file{"a": {data: []byte("3"), mode: 0o644}}) || read("a") != "3" {
		t.Error("second content is not there")
	}
	if _, err := os.Lstat(filepath.Join(dir, "d")); !os.IsNotExist(err) {
		t.Error("the name of a removed file is still there")
	}
	stale, err := filepath.Glob(filepath.Join(dir, "..2*"))
	if err != nil || len(stale) != 1 {
		t.Errorf("content folders = %v, %v, want one", stale, err)
	}
}

func TestContentPathsStayInside(t *testing.T) {
	for _, name := range []string{"", "/a", "../a", "a/../../b", "..a"} {
		if _, err := writeAtomically(t.TempDir(), map[string]file{name: {}}, nil); err == nil {
			t.Errorf("writeAtomically(%q) succeeds", name)
		}
	}
}

func TestSubpathsDoNotLeaveTheVolume(t *testing.T) {
	root := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(root, "out")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("in", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := openBeneath(root, "out/passwd"); err == nil || !strings.Contains(err.Error(), "not within the volume path") {
		t.Errorf("openBeneath through a link to the outside: %v", err)
	}
	fd, err := openBeneath(root, "in/deep")
	if err != nil {
		t.Fatalf("openBeneath of a missing folder: %v", err)
	}
	os.NewFile(uintptr(fd), "").Close()
	fd, err = openBeneath(root, "link/deep")
	if err != nil {
		t.Fatalf("openBeneath through a link inside: %v", err)
	}
	os.NewFile(uintptr(fd), "").Close()
}

func TestShareBindsOnce(t *testing.T) {
	need.Root(t, "folders are mounted")
	dir := t.TempDir()
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // no mount where the machine's root is shared
	for range 2 {
		if err := Share(dir); err != nil {
			t.Fatal(err)
		}
		if shared, err := isShared(dir); err != nil || !shared {
			t.Errorf("isShared = %v, %v, want true", shared, err)
		}
	}
	if points, err := mountPoints(dir); err != nil || len(points) > 1 {
		t.Errorf("mount points = %v, %v, want one at most", points, err)
	}
}

func TestOwnershipReachesTheGroup(t *testing.T) {
	need.Root(t, "owners are changed")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := own(dir, 4242, false); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "f"))
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode = %v, %v, want 0660", info.Mode(), err)
	}
	folder, err := os.Stat(dir)
	if err != nil || folder.Mode()&os.ModeSetgid == 0 {
		t.Errorf("folder does not pass its group on: %v, %v", folder.Mode(), err)
	}
}

func TestHugePageSize(t *testing.T) {
	tests := []struct {
		medium   corev1.StorageMedium
		requests []string // page sizes
		want     int64    // zero for an error
	}{
		{"HugePages", []string{"2Mi"}, 2 << 20},
		{"HugePages", []string{"2Mi", "1Gi"}, 0},
		{"HugePages", nil, 0},
		{"HugePages-1Gi", []string{"2Mi", "1Gi"}, 1 << 30},
		{"HugePages-1Gi", []string{"2Mi"}, 0},
		{"Tape", []string{"2Mi"}, 0},
	}
	for _, test := range tests {
		list := corev1.ResourceList{}
		for _, size := range test.requests {
			list[corev1.ResourceName(corev1.ResourceHugePagesPrefix+size)] = resource.MustParse("1Gi")
		}
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: list}}}}}
		if got, err := hugePageSize(p, test.medium); got != test.want || (err == nil) != (test.want != 0) {
			t.Errorf("hugePageSize(%s, %v) = %d, %v, want %d", test.medium, test.requests, got, err, test.want)
		}
	}
}

func TestFolderOfHugePages(t *testing.T) {
	need.Root(t, "mounts")
	dir := t.TempDir()
	for range 2 {
		if err := ensureMemory(dir, "hugetlbfs", unix.HUGETLBFS_MAGIC, "pagesize=2097152"); err != nil {
			t.Fatal(err)
		}
	}
	defer unix.Unmount(dir, unix.MNT_DETACH) //nolint:errcheck // best effort
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Type != unix.HUGETLBFS_MAGIC || st.Bsize != 2<<20 {
		t.Errorf("file system is of type %x with blocks of %d bytes, %v", st.Type, st.Bsize, err)
	}
}
