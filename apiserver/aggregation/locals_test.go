// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package aggregation

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/kinds/catalog"
)

// TestOutline keeps of what the aggregator made what it compares it by, and all of what others made.
func TestOutline(t *testing.T) {
	for _, local := range []Local{
		{GroupVersion: schema.GroupVersion{Version: "v1"}, Priority: 18000, VersionPriority: 1},
		{GroupVersion: schema.GroupVersion{Group: "boats.sea.example", Version: "v1beta1"}, Custom: true, Priority: 1000, VersionPriority: 100},
	} {
		want := local.describe()
		want.UID = "u"
		have := want.DeepCopy()
		have.ResourceVersion, have.Annotations = "7", map[string]string{"a": "b"}
		if d := cmp.Diff(want, outline(have)); d != "" {
			t.Errorf("outline of %s (-want +got):\n%s", want.Name, d)
		}
	}
	others := apiService()
	ours := others.DeepCopy()
	ours.Labels = marks[managedLive]
	for name, svc := range map[string]any{"of another server": outline(others), "of another server in our place": outline(ours)} {
		if svc != any(others) && svc != any(ours) {
			t.Errorf("an APIService %s is not kept whole: %v", name, svc)
		}
	}
}

// TestLocals has what this process serves, but for the group of the APIServices themselves.
func TestLocals(t *testing.T) {
	found := map[string]bool{}
	for _, l := range Locals(catalog.New().All(), []schema.GroupVersion{{Group: "boats.sea.example", Version: "v1"}}) {
		found[l.Group] = true
	}
	for group, want := range map[string]bool{"": true, "apps": true, "boats.sea.example": true, "apiregistration.k8s.io": false} {
		if found[group] != want {
			t.Errorf("group %q listed: %t, want %t", group, found[group], want)
		}
	}
}
