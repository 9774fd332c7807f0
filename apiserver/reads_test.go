// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver"
)

const (
	asTable = "application/json;as=Table;v=v1;g=meta.k8s.io"
	noBody  = ""
)

// asked is a request, and what its answer is and holds.
type asked struct {
	method, path, accept, body string
	code                       int
	// contains, if the first letter is no "!", and lacks what follows it otherwise.
	contains string
}

func (a *asked) check(t *testing.T, s *apiserver.Server) {
	t.Helper()
	rec := ask(t, s, a.method, a.path, strings.NewReader(a.body), "Accept", a.accept, "Content-Type", "application/json")
	text, lacks := strings.CutPrefix(a.contains, "!")
	if rec.Code != a.code || strings.Contains(rec.Body.String(), text) == (lacks && text != "") {
		t.Errorf("%s %s, Accept %q, %s = %d %.600s, want %d %s", a.method, a.path, a.accept, a.body, rec.Code, rec.Body, a.code, a.contains)
	}
}

// Paths that lead nowhere, and methods and media types that are not served, are refused as upstream's router and handlers do it.
func TestRoutes(t *testing.T) {
	s := start(t, func(c *apiserver.Config) {
		build := c.Build
		c.Build = func(s *apiserver.Server) (apiserver.Parts, error) {
			parts, err := build(s)
			parts.Documents = map[string]apiserver.Document{"/openid/v1/jwks": {MediaType: "application/jwk-set+json", Content: []byte(`{"keys":[]}`)}}
			return parts, err
		}
	})
	seed(t, s, 1, 10)
	for _, a := range []asked{
		{"GET", "//api/v1", "", noBody, 404, "404 page not found"},
		{"GET", "/apis/apps/v1/deployments/", "", noBody, 200, `"items":[]`},
		{"GET", "/apis/apps/v1/deployments/x", "", noBody, 404, "could not find the requested resource"},
		{"GET", "/apis/authorization.k8s.io/v1/subjectaccessreviews/x", "", noBody, 404, ""},
		{"GET", "/api/v1/watch/configmaps/m000", "", noBody, 404, ""},
		{"GET", "/api/v1/watch/bindings", "", noBody, 404, ""},
		{"GET", "/api/v1/componentstatuses?watch=1", "", noBody, 405, `watch is not supported on resources of kind \"componentstatuses\"`},
		{"GET", maps + "/%2e%2e", "", noBody, 400, `Name parameter invalid: \"..\": may not be '..'`},
		{"GET", maps + "/m000?export=true", "", noBody, 400, "no longer supported"},
		{"GET", "/healthz/", "", noBody, 404, ""},
		{"GET", "/debug/pprof", "", noBody, 302, ""},
		{"GET", "/debug/pprof/cmdline", "", noBody, 404, ""},
		{"GET", "/openapi/v2/", "", noBody, 404, ""},
		{"GET", "/index.html", "", noBody, 200, `"/openid/v1/jwks"`},
		{"GET", "/openid/v1/jwks/", "", noBody, 200, `{"keys":[]}`},
		{"GET", "/openid/v1/jwks", "application/json", noBody, 406, "Available representations: application/jwk-set+json"},
		{"POST", "/openid/v1/jwks", "", noBody, 405, "MethodNotAllowed"},
		{"POST", "/version", "", noBody, 405, "MethodNotAllowed"},
		{"PUT", "/api/v1", "", noBody, 405, "MethodNotAllowed"},
		{"PUT", "/apis/apps", "", noBody, 200, `"kind":"APIGroup"`},
		{"GET", "/api", "application/*", noBody, 406, "Available representations"},
		{"GET", "/apis", "text/html", noBody, 406, "only the following media types"},
		{"GET", "/apis", "application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", noBody, 200, "kind: APIGroupDiscoveryList"},
		{"GET", maps, "application/*", noBody, 406, "application/vnd.kubernetes.protobuf, application/json;stream=watch"},
		{"GET", maps + "/m000", "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json", noBody, 200, `"kind":"ConfigMap"`},
		{"GET", maps + "/none", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", noBody, 404, `  "reason": "NotFound"`},
		{"GET", maps + "/m000?pretty=yes", "", noBody, 200, `{"kind":"ConfigMap","apiVersion"`},
		{"GET", maps + "/m000?pretty=0", "application/json;pretty=1", noBody, 200, "{\n  \"kind\""},
	} {
		a.check(t, s)
	}
}

func TestSelectedFields(t *testing.T) {
	s := start(t)
	events, older := "/apis/events.k8s.io/v1/events?fieldSelector=", "/api/v1/events?fieldSelector="
	for _, a := range []asked{
		{"GET", older + "involvedObject.name=a,reportingComponent=b", "", noBody, 200, `"items":[]`},
		{"GET", older + "regarding.name=a", "", noBody, 400, "field label not supported: regarding.name"},
		{"GET", events + "regarding.name=a,reportingController=b", "", noBody, 200, `"items":[]`},
		{"GET", events + "involvedObject.name=a", "", noBody, 400, "field label not supported: involvedObject.name"},
		{"GET", "/api/v1/nodes?fieldSelector=metadata.namespace=a", "", noBody, 400, "field label not supported: metadata.namespace"},
		{"GET", "/apis/storage.k8s.io/v1/storageclasses?fieldSelector=metadata.namespace=a", "", noBody, 200, `"items":[]`},
		{"GET", "/apis/apps/v1/replicasets?fieldSelector=status.replicas=1", "", noBody, 400, "not a known field selector"},
		{"GET", "/api/v1/pods?fieldSelector=status.podIPs=1", "", noBody, 200, `"items":[]`},
	} {
		a.check(t, s)
	}
	body := `{"metadata":{"name":"e"},"involvedObject":{"namespace":"default","name":"x"},"reason":"R","type":"Normal"}`
	if rec := ask(t, s, "POST", "/api/v1/namespaces/default/events", strings.NewReader(body), "Content-Type", "application/json"); rec.Code != http.StatusCreated {
		t.Fatalf("POST = %d %s", rec.Code, rec.Body)
	}
	for _, query := range []string{events + "regarding.name=x,reason=R", older + "involvedObject.name=x,reason=R"} {
		(&asked{"GET", query, "", noBody, 200, `"name":"e"`}).check(t, s)
	}
}

// A continue token is read before the version beside it, and that before anything is waited for; versions may have 64 bits.
func TestVersionsOfPages(t *testing.T) {
	s := start(t)
	seed(t, s, 3, 10)
	const now, later = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoibTAwMSJ9", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MTAwMDAwMDAwMCwic3RhcnQiOiJtMDAxIn0"
	for _, a := range []asked{
		{"GET", maps + "?limit=1&continue=" + now, "", noBody, 200, "!m002"},
		{"GET", maps + "?limit=1&resourceVersion=0&continue=" + now, "", noBody, 200, "m002"},
		{"GET", maps + "?limit=1&resourceVersion=x&continue=" + now, "", noBody, 400, "specifying resource version is not allowed when using continue"},
		{"GET", maps + "?limit=1&resourceVersion=1&continue=" + later, "", noBody, 400, "specifying resource version is not allowed when using continue"},
		{"GET", maps + "?watch=1&timeoutSeconds=-1", "", noBody, 200, ""},
		{"GET", maps + "?watch=1&timeoutSeconds=1&resourceVersion=18446744073709551615", "", noBody, 200, ""},
		{"GET", maps + "?watch=1&timeoutSeconds=1&resourceVersion=18446744073709551616", "", noBody, 500, "value out of range"},
		{"DELETE", maps + "?limit=2&dryRun=All", "", noBody, 200, `"remainingItemCount":1`},
		{"DELETE", maps + "?limit=2", "", noBody, 200, `"continue":"`},
		{"GET", maps, "", noBody, 200, "!m001"},
	} {
		a.check(t, s)
	}
}

// Scales and what is not stored have rows; most subresources have none. What says that the initial events end is in a row that is to have no object.
func TestRows(t *testing.T) {
	s := start(t)
	seed(t, s, 1, 10)
	deployment := `{"metadata":{"name":"d"},"spec":{"replicas":3,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`
	for _, a := range []asked{
		{"POST", "/apis/apps/v1/namespaces/default/deployments", "", deployment, 201, ""},
		{"GET", "/apis/apps/v1/namespaces/default/deployments/d/scale", asTable, noBody, 200, `"cells":["d",3,0,`},
		{"GET", "/api/v1/componentstatuses", asTable, noBody, 200, `"cells":["etcd-0","Healthy","ok",""]`},
		{"GET", "/api/v1/componentstatuses", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", noBody, 200, `"items":[{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"etcd-0"`},
		{"GET", "/api/v1/componentstatuses?labelSelector=a", asTable, noBody, 200, `"rows":[]`},
		{"GET", "/api/v1/componentstatuses?fieldSelector=a=b", "", noBody, 400, "not a known field selector"},
		{"GET", "/api/v1/componentstatuses/none", "", noBody, 404, `componentstatus \"none\" not found`},
		{"GET", "/api/v1/namespaces/default/pods/p/resize", asTable, noBody, 406, "only the following media types"},
		{"GET", "/api/v1/namespaces/default/secrets", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", noBody, 200, `"items":null`},
		{"POST", "/api/v1/namespaces/default/pods", "", `{"metadata":{"name":"ended"},"spec":{"containers":[{"name":"c","image":"i"}]}}`, 201, ""},
		{"PUT", "/api/v1/namespaces/default/pods/ended/status", "", `{"metadata":{"name":"ended"},"status":{"phase":"Failed"}}`, 200, ""},
		{
			"GET", "/api/v1/namespaces/default/pods", asTable, noBody, 200,
			`"conditions":[{"type":"Completed","status":"True","reason":"Failed","message":"The pod failed."}]`,
		},
		{
			"GET", maps + "?watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&includeObject=None", asTable,
			noBody, 200, `"annotations":{"k8s.io/initial-events-end":"true"}`,
		},
	} {
		a.check(t, s)
	}
}

// A client may name gzip to refuse it.
func TestCompressionIsForWhoTakesIt(t *testing.T) {
	s := start(t)
	seed(t, s, 4, 40_000)
	for accepted, want := range map[string]string{"gzip": "gzip", "br, gzip": "gzip", "gzip;q=0": "", "identity;q=1, gzip;q=0": "", "x-gzip": "", "": ""} {
		for path, vary := range map[string]string{maps: want, maps + "/m000": ""} {
			rec := ask(t, s, "GET", path, nil, "Accept-Encoding", accepted)
			if vary != "" {
				vary = "Accept-Encoding"
			}
			if got := rec.Header().Get("Content-Encoding"); path == maps && got != want || rec.Header().Get("Vary") != vary {
				t.Errorf("GET %s with Accept-Encoding %q is encoded as %q, varies by %q; want %q, %q", path, accepted, got, rec.Header().Get("Vary"), want, vary)
			}
		}
	}
	for accepted, want := range map[string]string{"gzip": "gzip", "gzip;q=0.5": "gzip", "gzip;q=0": "", "identity": ""} {
		if got := ask(t, s, "GET", "/openapi/v2", nil, "Accept-Encoding", accepted).Header().Get("Content-Encoding"); got != want {
			t.Errorf("GET /openapi/v2 with Accept-Encoding %q is encoded as %q, want %q", accepted, got, want)
		}
	}
}

func TestTagsOfOpenAPI(t *testing.T) {
	s := start(t)
	const path = "/openapi/v3/apis/apps/v1"
	tag := ask(t, s, "GET", path, nil).Header().Get("ETag")
	for asked, want := range map[string]int{tag: 304, "W/" + tag: 304, `"x", ` + tag: 304, "*": 304, `"x"`: 200, strings.Trim(tag, `"`): 200} {
		if got := ask(t, s, "GET", path, nil, "If-None-Match", asked).Code; got != want {
			t.Errorf("GET %s with If-None-Match %s = %d, want %d", path, asked, got, want)
		}
	}
	for accept, want := range map[string]int{"text/html": 406, "application/yaml": 406, "application/*": 200, "text/html, */*;q=0.1": 200} {
		if got := ask(t, s, "GET", path, nil, "Accept", accept).Code; got != want {
			t.Errorf("GET %s with Accept %s = %d, want %d", path, accept, got, want)
		}
	}
}

// What a client made up does not look like HTML in what it may not do, and no browser is to guess that it does.
func TestForbiddenIsNoPage(t *testing.T) {
	s := start(t)
	rec := ask(t, s, "GET", "/api/v1/namespaces/a%3Cb%26c%3E/configmaps", nil, "Impersonate-User", "nobody")
	if want := `namespace \"a\u0026lt;b\u0026amp;c\u0026gt;\"`; rec.Code != 403 || !strings.Contains(rec.Body.String(), want) || rec.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("GET = %d %s, %v, want 403 with %s", rec.Code, rec.Body, rec.Header(), want)
	}
	// Who may, but is refused for what they sent, gets no such header.
	rec = ask(t, s, "POST", "/api/v1/namespaces/none/configmaps", strings.NewReader(`{"metadata":{"name":"a"}}`), "Content-Type", "application/json")
	if got, there := rec.Header()["X-Content-Type-Options"]; there {
		t.Errorf("POST = %d %s with X-Content-Type-Options %q", rec.Code, rec.Body, got)
	}
}

func TestPprofPagesAreBelowASlash(t *testing.T) {
	s := start(t)
	if got := ask(t, s, "GET", "/debug/pprof", nil).Header().Get("Location"); got != "/debug/pprof/" {
		t.Errorf("GET /debug/pprof leads to %q", got)
	}
	for _, header := range []string{"/metrics", "/metrics/slis"} {
		if rec := ask(t, s, "GET", header, nil); rec.Header().Get("Process-Start-Time-Unix") == "" {
			t.Errorf("GET %s does not say since when it counts: %s", header, fmt.Sprint(rec.Header()))
		}
	}
}

// What dashboards tell apart: writes of one object and of collections, reads of one object however it is named, applies, and streams.
func TestRequestsAreCountedAsUpstreamDoes(t *testing.T) {
	s := start(t)
	ask(t, s, "POST", maps, strings.NewReader(`{"metadata":{"name":"a"}}`), "Content-Type", "application/json")
	ask(t, s, "PATCH", maps+"/a?fieldManager=m", strings.NewReader(`{"apiVersion":"v1","kind":"ConfigMap"}`), "Content-Type", "application/apply-patch+yaml")
	ask(t, s, "GET", maps+"?fieldSelector=metadata.name%3Da", nil)
	ask(t, s, "GET", "/api/v1/namespaces/default/pods/p/log", nil)
	ask(t, s, "DELETE", maps, nil)
	metrics := ask(t, s, "GET", "/metrics", nil).Body.String()
	for _, want := range []string{
		`resource="configmaps",scope="resource",subresource="",verb="POST",version="v1"} 1`, `resource="configmaps",scope="resource",subresource="",verb="APPLY",version="v1"} 1`,
		`resource="configmaps",scope="resource",subresource="",verb="GET",version="v1"} 1`, `resource="configmaps",scope="namespace",subresource="",verb="DELETE",version="v1"} 1`,
		`resource="pods",scope="resource",subresource="log",verb="CONNECT",version="v1"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// The answer to a deletion has its revision: who watches from there on does not see it.
func TestDeletedObjectsHaveTheRevisionOfTheirDeletion(t *testing.T) {
	s := start(t)
	var made, gone, next metav1.PartialObjectMetadata
	for _, step := range []struct {
		method, path, body string
		into               *metav1.PartialObjectMetadata
	}{
		{"POST", "/api/v1/namespaces/default/pods", `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}`, &made},
		{"DELETE", "/api/v1/namespaces/default/pods/p", noBody, &gone},
		{"POST", maps, `{"metadata":{"name":"a"}}`, &next},
	} {
		rec := ask(t, s, step.method, step.path, strings.NewReader(step.body), "Content-Type", "application/json")
		if err := json.Unmarshal(rec.Body.Bytes(), step.into); err != nil || rec.Code >= 300 {
			t.Fatalf("%s %s = %d %s, %v", step.method, step.path, rec.Code, rec.Body, err)
		}
	}
	revision := func(m metav1.PartialObjectMetadata) int {
		n, err := strconv.Atoi(m.ResourceVersion)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got, want := revision(gone), revision(next)-1; got != want || got != revision(made)+2 {
		t.Errorf("a pod made at %d is deleted at %d, want %d", revision(made), got, want)
	}
}
