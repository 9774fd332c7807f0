// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package catalog_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/catalog"
)

// TestDiscoveryIsThatOfTheRelease compares names, scope, short names, categories and verbs of all resources and
// subresources with testdata/resources.txt, which lists what v1.36.3 serves by default.
func TestDiscoveryIsThatOfTheRelease(t *testing.T) {
	golden, err := os.ReadFile("testdata/resources.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(golden)), "\n")
	slices.Sort(want)
	var got []string
	for _, group := range catalog.New().Groups() {
		for _, version := range group.Versions {
			for _, k := range version.Kinds {
				got = append(got, describe(version.GroupVersion, k)...)
			}
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("resources differ from the release's (-want +got):\n%s", diff)
	}
}

func describe(gv schema.GroupVersion, k *kinds.Kind) []string {
	served := k.Version(gv)
	scope := "Cluster"
	if k.Namespaced {
		scope = "Namespaced"
	}
	verbs := k.Verbs
	if verbs == nil {
		verbs = kinds.StandardVerbs
	}
	out := []string{fmt.Sprintf("%s %s singular=%s kind=%s scope=%s short=%s categories=%s verbs=%s",
		gv, k.Resource, k.Singular, served.Kind, scope, list(k.ShortNames), list(k.Categories), verbText(verbs))}
	for i := range k.Subresources {
		s := &k.Subresources[i]
		kind, version := served.Kind, "-"
		if s.GroupVersionKind.Kind != "" {
			kind = s.GroupVersionKind.Kind
		}
		if other := s.GroupVersionKind.GroupVersion(); !other.Empty() && other != gv {
			version = other.String()
		}
		out = append(out, fmt.Sprintf("%s %s/%s kind=%s gv=%s verbs=%s", gv, k.Resource, s.Name, kind, version, verbText(s.Verbs)))
	}
	return out
}

func list(items []string) string {
	if len(items) == 0 {
		return "-"
	}
	return strings.Join(items, ",")
}

func verbText(verbs []string) string {
	sorted := slices.Sorted(slices.Values(verbs))
	if slices.Equal(sorted, slices.Sorted(slices.Values(kinds.StandardVerbs))) {
		return "standard"
	}
	return strings.Join(sorted, ",")
}

func TestGroupsAreInTheOrderOfDiscovery(t *testing.T) {
	want := []string{
		"apiregistration.k8s.io", "", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch",
		"certificates.k8s.io", "networking.k8s.io", "policy", "rbac.authorization.k8s.io", "storage.k8s.io",
		"admissionregistration.k8s.io", "apiextensions.k8s.io", "scheduling.k8s.io", "coordination.k8s.io", "node.k8s.io",
		"discovery.k8s.io", "resource.k8s.io", "flowcontrol.apiserver.k8s.io",
	}
	var got []string
	for _, g := range catalog.New().Groups() {
		got = append(got, g.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	group, _ := catalog.New().Group("autoscaling")
	if len(group.Versions) != 2 || group.Versions[0].Version != "v2" {
		t.Errorf("autoscaling versions = %v, want v2 then v1", group.Versions)
	}
	var versions []string
	group, _ = everything(t).Group("resource.k8s.io")
	for _, v := range group.Versions {
		versions = append(versions, fmt.Sprintf("%s %d", v.Version, v.Priority))
	}
	if diff := cmp.Diff([]string{"v1 21", "v1beta2 15", "v1beta1 9", "v1alpha3 1"}, versions); diff != "" {
		t.Errorf("versions of resource.k8s.io with their priorities (-want +got):\n%s", diff)
	}
}

func TestPrefixesAreDistinct(t *testing.T) {
	seen := map[string]string{}
	for _, k := range everything(t).All() {
		if k.Storage.Prefix == "" {
			if k.Allows("watch") {
				t.Errorf("%s can be watched but has no storage prefix", k.Resource)
			}
			continue
		}
		if other, taken := seen[k.Storage.Prefix]; taken {
			t.Errorf("%s and %s share the prefix %q", k.Resource, other, k.Storage.Prefix)
		}
		seen[k.Storage.Prefix] = k.Resource
	}
	for prefix, resource := range map[string]string{
		"ingress": "ingresses", "minions": "nodes", "services/specs": "services", "services/endpoints": "endpoints", "controllers": "replicationcontrollers",
		"apiextensions.k8s.io/customresourcedefinitions": "customresourcedefinitions", "apiregistration.k8s.io/apiservices": "apiservices",
	} {
		if seen[prefix] != resource {
			t.Errorf("prefix %q is that of %q, want %q", prefix, seen[prefix], resource)
		}
	}
}

// TestSchemeKnowsWhatIsServed also holds that lists and the meta types travel in each version.
func TestSchemeKnowsWhatIsServed(t *testing.T) {
	scheme := everything(t).Scheme()
	for _, k := range everything(t).All() {
		for _, s := range k.Served {
			obj := s.New()
			gvks, _, err := scheme.ObjectKinds(obj)
			if err != nil || !slices.Contains(gvks, s.GroupVersionKind) {
				t.Errorf("scheme knows %T as %v (%v), want %v", obj, gvks, err, s.GroupVersionKind)
			}
			if s.NewList == nil {
				if k.Allows("list") {
					t.Errorf("%s can be listed but has no list type", k.Resource)
				}
				continue
			}
			if _, _, err := scheme.ObjectKinds(s.NewList()); err != nil {
				t.Errorf("scheme does not know the list of %s: %v", k.Resource, err)
			}
			for _, meta := range []string{"WatchEvent", "DeleteOptions", "ListOptions"} {
				if !scheme.Recognizes(s.GroupVersion().WithKind(meta)) {
					t.Errorf("scheme does not know %s of %s", meta, s.GroupVersion())
				}
			}
		}
	}
	for _, gvk := range []schema.GroupVersionKind{
		{Group: "autoscaling", Version: "v1", Kind: "Scale"},
		{Group: "policy", Version: "v1", Kind: "Eviction"},
		{Group: "authentication.k8s.io", Version: "v1", Kind: "TokenRequest"},
		{Group: "meta.k8s.io", Version: "v1", Kind: "Table"},
		{Group: "meta.k8s.io", Version: "v1", Kind: "PartialObjectMetadataList"},
		{Version: "v1", Kind: "Status"},
	} {
		if !scheme.Recognizes(gvk) {
			t.Errorf("scheme does not know %s", gvk)
		}
	}
}

func TestLookups(t *testing.T) {
	c := catalog.New()
	gvr := schema.GroupVersionResource{Group: "autoscaling", Version: "v1", Resource: "horizontalpodautoscalers"}
	k, served := c.ByResource(gvr)
	if k == nil || served.Version != "v1" || k.Storage.Version != "v2" {
		t.Fatalf("ByResource(%v) = %v, %v", gvr, k, served)
	}
	if again, _ := c.ByType(served.New()); again != k {
		t.Errorf("ByType does not find the kind that ByResource found")
	}
	if again, _ := c.ByKind(served.GroupVersionKind); again != k {
		t.Errorf("ByKind does not find the kind that ByResource found")
	}
	if k, served := c.ByKind(schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Lamp"}); k != nil || served != nil {
		t.Errorf("ByKind finds a kind that is not built in")
	}
}

func TestRowsFitTheirColumns(t *testing.T) {
	for _, k := range everything(t).All() {
		if k.Table == nil || k.Storage.New == nil {
			continue
		}
		obj := k.Storage.New()
		if k.Default != nil {
			k.Default(obj)
		}
		if got, want := len(k.Table.Row(obj, metav1.Now().Time)), len(k.Table.Columns); got != want {
			t.Errorf("%s: row has %d cells, want %d", k.Resource, got, want)
		}
	}
}
