// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package catalog_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/catalog"
)

// described lists what a catalog serves, as testdata has it.
func described(c *catalog.Catalog) []string {
	var out []string
	for _, group := range c.Groups() {
		for _, version := range group.Versions {
			for _, k := range version.Kinds {
				out = append(out, describe(version.GroupVersion, k)...)
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestAllOnRequestIsThatOfTheRelease compares what is served besides the default with testdata/requested.txt, which lists what v1.36.3 serves
// with --runtime-config=api/all=true.
func TestAllOnRequestIsThatOfTheRelease(t *testing.T) {
	golden, err := os.ReadFile("testdata/requested.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := append(described(catalog.New()), strings.Split(strings.TrimSpace(string(golden)), "\n")...)
	slices.Sort(want)
	if diff := cmp.Diff(want, described(everything(t))); diff != "" {
		t.Errorf("resources differ from the release's (-want +got):\n%s", diff)
	}
}

func TestRequests(t *testing.T) {
	const (
		beta1, beta2 = "resource.k8s.io/v1beta1", "resource.k8s.io/v1beta2"
		alpha        = "admissionregistration.k8s.io/v1alpha1"
		beta         = "admissionregistration.k8s.io/v1beta1"
	)
	for name, test := range map[string]struct {
		config map[string]string
		// on and off are group/version/resource.
		on, off []string
	}{
		"nothing":               {nil, []string{"resource.k8s.io/v1/resourceclaims"}, []string{beta1 + "/resourceclaims", alpha + "/mutatingadmissionpolicies"}},
		"a version":             {map[string]string{beta1: "true"}, []string{beta1 + "/resourceclaims", beta1 + "/deviceclasses"}, []string{beta2 + "/resourceclaims"}},
		"without a value":       {map[string]string{beta1: ""}, []string{beta1 + "/resourceclaims"}, nil},
		"a resource":            {map[string]string{beta1 + "/deviceclasses": "true"}, []string{beta1 + "/deviceclasses"}, []string{beta1 + "/resourceclaims"}},
		"a version less one":    {map[string]string{beta1: "true", beta1 + "/deviceclasses": "false"}, []string{beta1 + "/resourceclaims"}, []string{beta1 + "/deviceclasses"}},
		"all betas":             {map[string]string{"api/beta": "true"}, []string{beta1 + "/resourceclaims", beta + "/mutatingadmissionpolicies"}, []string{alpha + "/mutatingadmissionpolicies"}},
		"all alphas":            {map[string]string{"api/alpha": "true"}, []string{alpha + "/mutatingadmissionpolicies"}, []string{beta + "/mutatingadmissionpolicies"}},
		"all but betas":         {map[string]string{"api/all": "true", "api/beta": "false"}, []string{alpha + "/mutatingadmissionpolicies"}, []string{beta + "/mutatingadmissionpolicies"}},
		"betas but one":         {map[string]string{"api/beta": "true", beta1: "false"}, []string{beta2 + "/resourceclaims"}, []string{beta1 + "/resourceclaims"}},
		"a kind of its own":     {map[string]string{"resource.k8s.io/v1beta2/devicetaintrules": "true"}, []string{"resource.k8s.io/v1beta2/devicetaintrules"}, []string{"resource.k8s.io/v1alpha3/devicetaintrules"}},
		"an older default":      {map[string]string{"autoscaling/v1": "false"}, []string{"autoscaling/v2/horizontalpodautoscalers"}, []string{"autoscaling/v1/horizontalpodautoscalers"}},
		"a default that is on":  {map[string]string{"apps/v1": "true", "/v1": "true"}, []string{"apps/v1/deployments"}, nil},
		"events of their group": {map[string]string{"events.k8s.io/v1/events": "false"}, []string{"/v1/events"}, []string{"events.k8s.io/v1/events"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := catalog.Serving(test.config)
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range test.on {
				if k, served := c.ByResource(resourceOf(key)); k == nil || k.Version(served.GroupVersion()) == nil {
					t.Errorf("%s is not served", key)
				}
			}
			for _, key := range test.off {
				gvr := resourceOf(key)
				if k, _ := c.ByResource(gvr); k != nil {
					t.Errorf("%s is served", key)
				}
				k := c.ByGroupResource(gvr.GroupResource())
				if k != nil && (k.Known(gvr.GroupVersion()) == nil || k.Version(gvr.GroupVersion()) != nil) {
					t.Errorf("%s is not known, or is served", key)
				}
			}
		})
	}
}

func resourceOf(key string) schema.GroupVersionResource {
	parts := strings.Split(key, "/")
	return schema.GroupVersionResource{Group: parts[0], Version: parts[1], Resource: parts[2]}
}

func TestRequestsForWhatIsNotThere(t *testing.T) {
	for _, test := range []struct{ key, value, want string }{
		{"resource.k8s.io/v1beta1", "yes", `resource.k8s.io/v1beta1: "yes" is not true or false`},
		{"resource.k8s.io/v1beta3", "true", "resource.k8s.io/v1beta3 is not served, not on request either; did you mean resource.k8s.io/v1beta"},
		{"api/betas", "true", "did you mean api/beta?"},
		{"resource.k8s.io/v1beta1/resourceclaim", "true", "did you mean resource.k8s.io/v1beta1/resourceclaims?"},
		{"certificates.k8s.io/v1beta1", "true", "certificates.k8s.io/v1beta1: kogge has no clustertrustbundles, no podcertificaterequests"},
		{"certificates.k8s.io/v1alpha1/clustertrustbundles", "true", "kogge has no clustertrustbundles"},
		{"apps/v1", "false", "of apps/v1 can't be turned off"},
		{"api/ga", "false", "can't be turned off"},
		{"autoscaling/v2", "false", "horizontalpodautoscalers of autoscaling/v2 can't be turned off"},
		{"authorization.k8s.io/v1/subjectaccessreviews", "false", "subjectaccessreviews of authorization.k8s.io/v1 can't be turned off"},
		{"v1", "true", "v1 is not served"},
	} {
		if _, err := catalog.Serving(map[string]string{test.key: test.value}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Serving(%s=%s) = %v, want an error with %q", test.key, test.value, err, test.want)
		}
	}
}

// TestOnRequestLosesNothing converts random objects from the storage version to each that is served on request, and back.
func TestOnRequestLosesNothing(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range catalog.Known() {
		for i := range k.OnRequest {
			served := &k.OnRequest[i]
			if served.FromStorage == nil {
				continue // the version that is stored
			}
			seen[served.GroupVersion().String()] = true
			for seed := range int64(fills) {
				stored := k.Storage.New()
				random(t, seed, stored)
				if k.Default != nil {
					k.Default(stored)
				}
				if slice, ok := stored.(*resourcev1.ResourceSlice); ok && !ptr.Deref(slice.Spec.AllNodes, false) {
					slice.Spec.AllNodes = nil // v1beta1 can't tell false from nothing; only true is valid
				}
				before := stored.DeepCopyObject()
				converted, err := served.FromStorage(stored)
				if err != nil {
					t.Fatalf("%s: %v", served.GroupVersionKind, err)
				}
				back := restored(t, k, served, converted)
				if !equal.Semantic(stored, back) {
					t.Errorf("%s (-before +after):\n%s", served.GroupVersionKind, cmp.Diff(text(t, stored), text(t, back)))
				}
				if !equal.Semantic(before, stored) {
					t.Errorf("%s: the conversion changed its input", served.GroupVersionKind)
				}
			}
		}
	}
	if len(seen) < 7 {
		t.Errorf("only %v are served on request", slices.Sorted(maps.Keys(seen)))
	}
}

func restored(t *testing.T, k *kinds.Kind, served *kinds.Served, obj kinds.Object) kinds.Object {
	t.Helper()
	back, err := served.ToStorage(obj)
	if err != nil {
		t.Fatalf("%s: %v", served.GroupVersionKind, err)
	}
	if k.Default != nil {
		k.Default(back)
	}
	back.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return back
}
