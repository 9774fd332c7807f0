// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package aggregation

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/discovery"
	"kogge.dev/kogge/codec"
)

// TestBuiltInIsListedUntilTakenOver asks discovery, before and after a remote server has the group-version.
func TestBuiltInIsListedUntilTakenOver(t *testing.T) {
	gv := schema.GroupVersion{Group: "metrics.k8s.io", Version: "v1beta1"}
	registry := discovery.NewRegistry()
	g := &Aggregator{remotes: map[schema.GroupVersion]*remote{}, cfg: Config{
		Registry: registry, BuiltIn: map[schema.GroupVersion]http.Handler{gv: http.NotFoundHandler()},
		BuiltInResources: map[schema.GroupVersion]*metav1.APIResourceList{gv: {APIResources: []metav1.APIResource{
			{Name: "nodes", Kind: "NodeMetrics", Verbs: metav1.Verbs{"get", "list"}},
		}}},
	}}
	list := func() string {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/apis", nil)
		r.Header.Set("Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
		registry.Handler(discovery.Front{Send: func(w http.ResponseWriter, _ *http.Request, _ codec.Accepted, body []byte) {
			_, _ = w.Write(body) // A recorder takes all.
		}}).ServeHTTP(w, r)
		return w.Body.String()
	}
	g.publish()
	if got := list(); !strings.Contains(got, "NodeMetrics") {
		t.Errorf("discovery does not list a built-in group-version: %s", got)
	}
	g.remotes[gv] = &remote{}
	g.publish()
	if got := list(); strings.Contains(got, "NodeMetrics") || !strings.Contains(got, "Stale") {
		t.Errorf("discovery lists a built-in group-version that a remote server has: %s", got)
	}
}
