// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package userns_test

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/kubelet/userns"
)

func open(t *testing.T, dir string, most int) *userns.Ranges {
	t.Helper()
	r := userns.New(userns.Config{Pods: dir, Most: most})
	if err := r.Load(); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRangesAreApart also restarts the kubelet, and fills the node.
func TestRangesAreApart(t *testing.T) {
	dir := t.TempDir()
	for _, pod := range []string{"a", "b", "c"} {
		if err := os.Mkdir(filepath.Join(dir, pod), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	begin := func(r *userns.Ranges, pod string) uint32 {
		t.Helper()
		u, err := r.Of(types.UID(pod))
		if err != nil {
			t.Fatal(err)
		}
		if len(u.GetUids()) != 1 || len(u.GetGids()) != 1 || u.GetUids()[0].GetContainerId() != 0 || u.GetUids()[0].GetLength() != 65536 {
			t.Errorf("range of %s: %v", pod, u)
		}
		return u.GetUids()[0].GetHostId()
	}
	r := open(t, dir, 2)
	if a, b := begin(r, "a"), begin(r, "b"); a != 65536 || b != 2*65536 || begin(r, "a") != a {
		t.Errorf("ranges begin at %d and %d", a, b)
	}
	r = open(t, dir, 2)
	if got := begin(r, "b"); got != 2*65536 {
		t.Errorf("after a restart b begins at %d", got)
	}
	if _, err := r.Of("c"); err == nil {
		t.Error("more pods than allowed have ranges")
	}
	if err := r.Free("a"); err != nil {
		t.Fatal(err)
	}
	if got := begin(r, "c"); got != 65536 {
		t.Errorf("c begins at %d, want the free range", got)
	}
}

func TestStrangeRangeIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "a"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "userns"), []byte(`{"uidMappings":[{"hostId":5,"length":65536}],"gidMappings":[{"hostId":5,"length":65536}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := userns.New(userns.Config{Pods: dir, Most: 5}).Load(); err == nil {
		t.Error("ids that are no range were taken")
	}
}
