// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
)

func described(name string, priority map[string]int32, versions ...string) Group {
	g := Group{VersionPriority: priority}
	g.Discovery.Name = name
	for _, v := range versions {
		g.Discovery.Versions = append(g.Discovery.Versions, apidiscoveryv2.APIVersionDiscovery{Version: v})
	}
	return g
}

func TestVersionsAreSortedByPriorityThenByAge(t *testing.T) {
	r := NewRegistry()
	r.Set("crd", []Group{described("sea.example", nil, "v1beta1", "v1")})
	r.Set("aggregated", []Group{
		described("sea.example", map[string]int32{"v2": 15, "v3alpha1": 200}, "v2", "v3alpha1"),
		described("wardle.example", map[string]int32{"v1alpha1": 15, "v1beta1": 20}, "v1alpha1", "v1beta1"),
	})
	for group, want := range map[string][]string{
		"sea.example":    {"v3alpha1", "v1", "v1beta1", "v2"},
		"wardle.example": {"v1beta1", "v1alpha1"},
	} {
		var got []string
		g := r.current.Load().group(group)
		for _, v := range g.Versions {
			got = append(got, v.Version)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("versions of %s (-want +got):\n%s", group, diff)
		}
		if preferred := legacyGroup(g).PreferredVersion.Version; preferred != want[0] {
			t.Errorf("preferred version of %s = %s, want %s", group, preferred, want[0])
		}
	}
}
