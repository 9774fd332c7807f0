// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
)

func described(name string, priority map[string]int32, versions ...string) *Group {
	g := &Group{VersionPriority: priority}
	g.Discovery.Name = name
	for _, v := range versions {
		g.Discovery.Versions = append(g.Discovery.Versions, apidiscoveryv2.APIVersionDiscovery{Version: v})
	}
	return g
}

func TestVersionsAreSortedByPriorityThenByAge(t *testing.T) {
	r := NewRegistry()
	r.Set("crd", []*Group{described("sea.example", nil, "v1beta1", "v1")})
	r.Set("aggregated", []*Group{
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

// TestMergingLeavesSources adds to a group of one source versions and resources of another, and takes them away again.
func TestMergingLeavesSources(t *testing.T) {
	resource := func(name string) apidiscoveryv2.APIResourceDiscovery {
		return apidiscoveryv2.APIResourceDiscovery{Resource: name}
	}
	source := func() []*Group {
		g := described("sea.example", map[string]int32{"v1": 10}, "v1beta1", "v1")
		g.Discovery.Versions[1].Resources = append(make([]apidiscoveryv2.APIResourceDiscovery, 0, 4), resource("ships"))
		return []*Group{g}
	}
	groups := source()
	other := described("sea.example", map[string]int32{"v1": 20, "v2": 30}, "v1", "v2")
	other.Discovery.Versions[0].Resources = []apidiscoveryv2.APIResourceDiscovery{resource("cogs")}
	r := NewRegistry()
	r.Set("aggregated", groups)
	alone := r.current.Load().groups
	r.Set("crd", []*Group{other})
	var got []string
	for _, v := range r.current.Load().group("sea.example").Versions {
		got = append(got, v.Version)
		for _, x := range v.Resources {
			got = append(got, x.Resource)
		}
	}
	if diff := cmp.Diff([]string{"v1beta1", "v2", "v1", "ships", "cogs"}, got); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(source(), groups); diff != "" {
		t.Errorf("the source's groups were changed (-before +after):\n%s", diff)
	}
	r.Set("crd", nil)
	if diff := cmp.Diff(alone, r.current.Load().groups); diff != "" {
		t.Errorf("without the other source (-before +after):\n%s", diff)
	}
}
