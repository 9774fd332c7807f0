// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cell

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHierarchiesOfBothVersions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, where, mounts string
		want                []hierarchy
	}{
		{
			"hybrid", "9:name=systemd:/\n4:memory:/box/1\n2:cpu,cpuacct:/\n0::/\n",
			"49 47 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n" +
				"52 47 0:33 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n" +
				"56 47 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n" +
				"57 47 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n58 47 0:39 / /proc rw - proc proc rw\n",
			[]hierarchy{
				{mount: "/sys/fs/cgroup/cpu,cpuacct", current: "/", options: "cpu,cpuacct"},
				{mount: "/sys/fs/cgroup/memory", current: "/box/1", options: "memory"},
				{mount: "/sys/fs/cgroup/systemd", current: "/", options: "name=systemd"},
				{mount: "/sys/fs/cgroup/unified", current: "/", unified: true},
			},
		},
		{
			"unified", "0::/user.slice\n", "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
			[]hierarchy{{mount: "/sys/fs/cgroup", current: "/user.slice", unified: true}},
		},
	} {
		got := parseHierarchies(test.where, test.mounts)
		if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(hierarchy{})); diff != "" {
			t.Errorf("%s: parseHierarchies() differs (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestSceneryIsToldByItsCgroup(t *testing.T) {
	t.Parallel()
	for cgroups, want := range map[string]bool{"2:cpuacct:/scenery\n": true, "0::/scenery\n": true, "2:cpuacct:/measured\n": false, "2:cpuacct:/kubepods/scenery-not\n": false} {
		if got := driven(cgroups); got != want {
			t.Errorf("driven(%q) = %v, want %v", cgroups, got, want)
		}
	}
}
