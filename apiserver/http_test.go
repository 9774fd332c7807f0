// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/memory"
)

// ask sends one request and returns the response.
func ask(t testing.TB, s *apiserver.Server, method, target string, body io.Reader, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequest(method, target, body)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	s.Handler().ServeHTTP(rec, req)
	return rec
}

func seed(t testing.TB, s *apiserver.Server, n, size int) {
	t.Helper()
	maps := client.Of[*corev1.ConfigMap](client.New(s.Client(request.User{Name: "seed"}), catalog.New()))
	for i := range n {
		obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("m%03d", i)}, Data: map[string]string{"x": strings.Repeat("y", size)}}
		if _, err := maps.Create(context.Background(), obj); err != nil {
			t.Fatal(err)
		}
	}
}

const maps = "/api/v1/namespaces/default/configmaps"

func TestAcceptDecidesTheForm(t *testing.T) {
	s := start(t)
	seed(t, s, 1, 10)
	tests := []struct{ accept, path, contentType, contains string }{
		{"", maps + "/m000", "application/json", `"kind":"ConfigMap"`},
		{"*/*", maps + "/m000", "application/json", `"kind":"ConfigMap"`},
		{"application/yaml", maps + "/m000", "application/yaml", "kind: ConfigMap\n"},
		{"application/vnd.kubernetes.protobuf", maps + "/m000", "application/vnd.kubernetes.protobuf", "k8s\x00"},
		{"application/json;as=Table;v=v1;g=meta.k8s.io,application/json", maps, "application/json", `"kind":"Table"`},
		{"application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", maps, "application/json", `"kind":"PartialObjectMetadataList"`},
		{"application/json;as=Unknown;v=v1;g=meta.k8s.io,application/json", maps + "/m000", "application/json", `"kind":"ConfigMap"`},
		{"text/html;q=0.9,application/json;q=0.1", maps + "/m000", "application/json", `"kind":"ConfigMap"`},
	}
	for _, tt := range tests {
		rec := ask(t, s, "GET", tt.path, nil, "Accept", tt.accept)
		if rec.Code != 200 || rec.Header().Get("Content-Type") != tt.contentType || !strings.Contains(rec.Body.String(), tt.contains) {
			t.Errorf("GET %s with Accept %q = %d %s %.200q, want %s with %q", tt.path, tt.accept, rec.Code, rec.Header().Get("Content-Type"), rec.Body, tt.contentType, tt.contains)
		}
	}
	if rec := ask(t, s, "GET", maps+"?watch=1&timeoutSeconds=1", nil, "Accept", "application/yaml"); rec.Code != http.StatusNotAcceptable ||
		!strings.Contains(rec.Body.String(), "application/vnd.kubernetes.protobuf;stream=watch") {
		t.Errorf("watch in YAML = %d %s, want 406", rec.Code, rec.Body)
	}
	if rec := ask(t, s, "GET", maps+"/m000", nil, "Accept", "text/html"); rec.Code != http.StatusNotAcceptable {
		t.Errorf("GET with Accept text/html = %d, want 406", rec.Code)
	}
}

func TestListsAreOneDocumentInEveryForm(t *testing.T) {
	s := start(t)
	seed(t, s, 3, 10)
	var fromJSON, fromProtobuf corev1.ConfigMapList
	if err := json.Unmarshal(ask(t, s, "GET", maps, nil).Body.Bytes(), &fromJSON); err != nil {
		t.Fatal(err)
	}
	data := ask(t, s, "GET", maps, nil, "Accept", "application/vnd.kubernetes.protobuf").Body.Bytes()
	if err := codec.DecodeStored(data, &fromProtobuf); err != nil {
		t.Fatal(err)
	}
	if len(fromJSON.Items) != 3 || len(fromProtobuf.Items) != 3 || fromJSON.Kind != "ConfigMapList" || fromProtobuf.Kind != "ConfigMapList" {
		t.Fatalf("lists have %d and %d items of kinds %s and %s", len(fromJSON.Items), len(fromProtobuf.Items), fromJSON.Kind, fromProtobuf.Kind)
	}
	for i := range fromJSON.Items {
		a, b := &fromJSON.Items[i], &fromProtobuf.Items[i]
		if a.Kind != "" || a.UID != b.UID || a.ResourceVersion != b.ResourceVersion || a.Data["x"] != b.Data["x"] {
			t.Errorf("item %d: %+v and %+v", i, a, b)
		}
	}
}

func TestProtobufHasDefaultsThatAreNotStored(t *testing.T) {
	below := memory.New()
	s := start(t, func(cfg *apiserver.Config) { cfg.Store = below })
	bare := &corev1.Secret{TypeMeta: metav1.TypeMeta{Kind: "Secret", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", UID: "u"}}
	for name, kind := range map[string]corev1.SecretType{"as-we-do": corev1.SecretTypeOpaque, "without-type": ""} {
		bare.Name, bare.Type = name, kind
		value, err := codec.Marshal(bare, codec.Protobuf)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := below.Create(t.Context(), "/registry/secrets/default/"+name, value, store.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	const secrets = "/api/v1/namespaces/default/secrets"
	for range 2 { // What the first finds out, the second knows.
		var fromJSON, fromProtobuf corev1.SecretList
		if err := json.Unmarshal(ask(t, s, "GET", secrets, nil).Body.Bytes(), &fromJSON); err != nil {
			t.Fatal(err)
		}
		if err := codec.DecodeStored(ask(t, s, "GET", secrets, nil, "Accept", "application/vnd.kubernetes.protobuf").Body.Bytes(), &fromProtobuf); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fromJSON.Items, fromProtobuf.Items); diff != "" || len(fromJSON.Items) != 2 {
			t.Errorf("%d items; -JSON +protobuf:\n%s", len(fromJSON.Items), diff)
		}
		for _, item := range fromProtobuf.Items {
			var one corev1.Secret
			if err := codec.DecodeStored(ask(t, s, "GET", secrets+"/"+item.Name, nil, "Accept", "application/vnd.kubernetes.protobuf").Body.Bytes(), &one); err != nil {
				t.Fatal(err)
			}
			one.TypeMeta = metav1.TypeMeta{}
			if diff := cmp.Diff(item, one); diff != "" || item.Type != corev1.SecretTypeOpaque || item.ResourceVersion == "" {
				t.Errorf("%s of type %q; -list +get:\n%s", item.Name, item.Type, diff)
			}
		}
	}
}

func TestLongListsAreSentWhileTheyAreEncoded(t *testing.T) {
	const n = 600
	s := start(t)
	seed(t, s, n, 100)
	plain := ask(t, s, "GET", maps, nil)
	if plain.Header().Get("Content-Length") != "" {
		t.Errorf("Content-Length = %s: the list was encoded before it was sent", plain.Header().Get("Content-Length"))
	}
	zip, err := gzip.NewReader(ask(t, s, "GET", maps, nil, "Accept-Encoding", "gzip").Body)
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := io.ReadAll(zip)
	if err != nil || !bytes.Equal(zipped, plain.Body.Bytes()) {
		t.Errorf("compressed list: %v, or its %d bytes are not the plain one's %d", err, len(zipped), plain.Body.Len())
	}
	var binary corev1.ConfigMapList
	protobuf := ask(t, s, "GET", maps, nil, "Accept", "application/vnd.kubernetes.protobuf")
	if err := codec.DecodeStored(protobuf.Body.Bytes(), &binary); err != nil || len(binary.Items) != n || protobuf.Header().Get("Content-Length") != "" {
		t.Errorf("protobuf: %d items with Content-Length %q, %v; want %d without", len(binary.Items), protobuf.Header().Get("Content-Length"), err, n)
	}
	var long, page corev1.ConfigMapList
	if err := json.Unmarshal(plain.Body.Bytes(), &long); err != nil || len(long.Items) != n {
		t.Fatalf("%d items, %v; want %d", len(long.Items), err, n)
	}
	short := ask(t, s, "GET", maps+"?limit=400", nil)
	if err := json.Unmarshal(short.Body.Bytes(), &page); err != nil || short.Header().Get("Content-Length") == "" {
		t.Fatalf("page with Content-Length %q: %v", short.Header().Get("Content-Length"), err)
	}
	if diff := cmp.Diff(page.Items, long.Items[:400]); diff != "" {
		t.Errorf("the long list's items differ from the page's (-page +long):\n%s", diff)
	}
	if diff := cmp.Diff(binary.Items, long.Items); diff != "" {
		t.Errorf("the long list's items differ in protobuf (-protobuf +JSON):\n%s", diff)
	}
}

func TestBigAnswersAreCompressed(t *testing.T) {
	s := start(t)
	seed(t, s, 20, 10_000)
	rec := ask(t, s, "GET", maps, nil, "Accept-Encoding", "gzip")
	if rec.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("Content-Encoding = %q, want gzip", rec.Header().Get("Content-Encoding"))
	}
	zip, err := gzip.NewReader(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	var list corev1.ConfigMapList
	if err := json.NewDecoder(zip).Decode(&list); err != nil || len(list.Items) != 20 {
		t.Errorf("%d items, %v; want 20", len(list.Items), err)
	}
	if rec := ask(t, s, "GET", maps+"/m000", nil, "Accept-Encoding", "gzip"); rec.Header().Get("Content-Encoding") != "" {
		t.Error("a small answer is compressed")
	}
}

func TestBodiesAreRefused(t *testing.T) {
	s := start(t)
	tests := []struct {
		name, contentType, body string
		code                    int
	}{
		{"unknown media type", "text/plain", "x", http.StatusUnsupportedMediaType},
		{"too large", "application/json", strings.Repeat("x", 3<<20+1), http.StatusRequestEntityTooLarge},
		{"broken JSON", "application/json", "{", http.StatusBadRequest},
		{"broken protobuf", "application/vnd.kubernetes.protobuf", "k8s\x00\xff\xff", http.StatusBadRequest},
		{"other kind", "application/json", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}`, http.StatusBadRequest},
		{"other version", "application/json", `{"apiVersion":"v9","kind":"ConfigMap","metadata":{"name":"x"}}`, http.StatusBadRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec := ask(t, s, "POST", maps, strings.NewReader(tt.body), "Content-Type", tt.contentType)
			status := metav1.Status{}
			if err := json.Unmarshal(rec.Body.Bytes(), &status); err != nil || rec.Code != tt.code || int(status.Code) != tt.code {
				t.Errorf("POST = %d %.200q (%v), want a status with code %d", rec.Code, rec.Body, err, tt.code)
			}
		})
	}
}

func TestUnknownFieldsWarn(t *testing.T) {
	s := start(t)
	body := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"bogus":1}`
	rec := ask(t, s, "POST", maps+"?fieldValidation=Strict", strings.NewReader(body), "Content-Type", "application/json")
	if rec.Code != 400 || !strings.Contains(rec.Body.String(), `strict decoding error: unknown field \"bogus\"`) {
		t.Errorf("Strict: %d %s", rec.Code, rec.Body)
	}
	rec = ask(t, s, "POST", maps, strings.NewReader(body), "Content-Type", "application/json")
	if got := rec.Header().Get("Warning"); rec.Code != 201 || got != `299 - "unknown field \"bogus\""` {
		t.Errorf("Warn: %d, Warning = %q", rec.Code, got)
	}
}

func TestTableWatchSendsColumnsOnce(t *testing.T) {
	s := start(t)
	seed(t, s, 2, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer := io.Pipe()
	w := &pipeWriter{PipeWriter: writer, header: http.Header{}, code: make(chan int, 1)}
	req := httptest.NewRequest("GET", maps+"?watch=1", nil).WithContext(ctx)
	req.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	go func() {
		s.Handler().ServeHTTP(w, req)
		_ = writer.Close()
	}()
	dec := json.NewDecoder(reader)
	for i := range 2 {
		var ev struct{ Object metav1.Table }
		if err := dec.Decode(&ev); err != nil {
			t.Fatal(err)
		}
		if columns := len(ev.Object.ColumnDefinitions); (columns > 0) != (i == 0) || len(ev.Object.Rows) != 1 {
			t.Errorf("event %d has %d columns and %d rows", i, columns, len(ev.Object.Rows))
		}
	}
	cancel()
	_, _ = io.Copy(io.Discard, reader)
}

func TestHealth(t *testing.T) {
	s := start(t)
	for path, want := range map[string]string{"/healthz": "ok", "/readyz?verbose": "[+]etcd ok", "/livez/ping": "ok"} {
		if rec := ask(t, s, "GET", path, nil); rec.Code != 200 || !strings.Contains(rec.Body.String(), want) {
			t.Errorf("GET %s = %d %q, want %q", path, rec.Code, rec.Body, want)
		}
	}
	if rec := ask(t, s, "GET", "/livez/absent", nil); rec.Code != 404 {
		t.Errorf("GET /livez/absent = %d, want 404", rec.Code)
	}
}

func TestMetricsOfWhatIsStored(t *testing.T) {
	s := start(t)
	for _, name := range []string{"a", "b"} {
		body := strings.NewReader(`{"metadata":{"name":"` + name + `"}}`)
		if rec := ask(t, s, "POST", "/api/v1/namespaces/default/configmaps", body, "Content-Type", "application/json"); rec.Code != http.StatusCreated {
			t.Fatalf("POST = %d %s", rec.Code, rec.Body)
		}
	}
	ask(t, s, "GET", "/api/v1/configmaps", nil) // The cache has seen them.
	metrics := ask(t, s, "GET", "/metrics", nil).Body.String()
	for _, want := range []string{
		`apiserver_resource_objects{group="",resource="configmaps"} 2`, `apiserver_storage_objects{resource="configmaps"} 2`,
		`apiserver_storage_objects{resource="deployments.apps"} 0`, `apiserver_resource_size_estimate_bytes{group="",resource="configmaps"} `,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestServerTellsOfItself(t *testing.T) {
	s := start(t, func(c *apiserver.Config) { c.Flags = map[string]string{"secure-port": "6443"} })
	ask(t, s, "GET", "/livez/ping", nil)
	for path, want := range map[string]string{
		"/statusz": "apiserver statusz", "/flagz": "secure-port=6443", "/version": `"buildDate": "`,
		"/metrics/slis": `kubernetes_healthchecks_total{name="ping",status="success",type="livez"} 1`, "/": `"/metrics/slis"`,
	} {
		if rec := ask(t, s, "GET", path, nil); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), want) {
			t.Errorf("GET %s = %d %s, want %s", path, rec.Code, rec.Body, want)
		}
	}
	// Resources have no HEAD.
	if rec := ask(t, s, "HEAD", "/api/v1/namespaces", nil); rec.Code != http.StatusMethodNotAllowed {
		t.Errorf("HEAD of a resource = %d, want 405", rec.Code)
	}
}

// URLs below subresources, and of objects that are only created, lead nowhere.
func TestURLsThatLeadNowhere(t *testing.T) {
	s := start(t)
	for _, url := range []string{
		"GET /apis/authentication.k8s.io/v1/tokenreviews/a", "PATCH /apis/authorization.k8s.io/v1/subjectaccessreviews/a", "PUT /api/v1/namespaces/default/bindings/a",
		"PUT /apis/apps/v1/namespaces/default/deployments/a/scale/more", "POST /api/v1/namespaces/default/serviceaccounts/a/token/more",
		"GET /api/v1/namespaces/default/pods/a/log/more",
	} {
		method, path, _ := strings.Cut(url, " ")
		if rec := ask(t, s, method, path, nil); rec.Code != http.StatusNotFound || !strings.Contains(rec.Body.String(), "the server could not find the requested resource") {
			t.Errorf("%s = %d %s, want 404", url, rec.Code, rec.Body)
		}
	}
	if rec := ask(t, s, "GET", "/apis/authentication.k8s.io/v1/tokenreviews", nil); rec.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET of token reviews = %d, want 405", rec.Code)
	}
}

func TestDocumentsAreServed(t *testing.T) {
	s := start(t)
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.Unmarshal(ask(t, s, "GET", "/openapi/v3", nil).Body.Bytes(), &index); err != nil {
		t.Fatal(err)
	}
	rec := ask(t, s, "GET", index.Paths["apis/apps/v1"].ServerRelativeURL, nil)
	var doc struct {
		Paths      map[string]any
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &doc); err != nil || rec.Header().Get("Cache-Control") != "public, immutable" {
		t.Fatalf("%v, Cache-Control %q", err, rec.Header().Get("Cache-Control"))
	}
	if doc.Paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"] == nil || doc.Components.Schemas["io.k8s.api.core.v1.PodSpec"] == nil {
		t.Error("the document of apps/v1 lacks deployments or pod specs")
	}
	for _, name := range []string{"v2@v1.0", "v2.v1.0"} { // the older name is not a media type that clients can read
		rec = ask(t, s, "GET", "/openapi/v2", nil, "Accept", "application/com.github.proto-openapi.spec."+name+"+protobuf")
		if rec.Code != 200 || rec.Header().Get("Content-Type") != "application/com.github.proto-openapi.spec.v2.v1.0+protobuf" || rec.Body.Len() < 100_000 {
			t.Errorf("GET /openapi/v2 as %s = %d %s, %d bytes", name, rec.Code, rec.Header().Get("Content-Type"), rec.Body.Len())
		}
	}
	rec = ask(t, s, "GET", "/apis", nil, "Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
	again := ask(t, s, "GET", "/apis", nil, "Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", "If-None-Match", rec.Header().Get("ETag"))
	if rec.Code != 200 || again.Code != http.StatusNotModified {
		t.Errorf("GET /apis = %d, and again with its tag %d; want 200 and 304", rec.Code, again.Code)
	}
}

func TestNobodyIsRefused(t *testing.T) {
	s := start(t)
	rec := ask(t, s, "GET", "/api/v1/namespaces/default/secrets/x", bytes.NewReader(nil), "Impersonate-User", "nobody")
	if rec.Code != http.StatusForbidden || !strings.Contains(rec.Body.String(), `User \"nobody\" cannot get resource \"secrets\" in API group \"\" in the namespace \"default\"`) {
		t.Errorf("GET as nobody = %d %s", rec.Code, rec.Body)
	}
}

func TestUnknownVersionsOfKnownGroupsAreStatuses(t *testing.T) {
	s := start(t)
	for target, want := range map[string]string{
		"/api/v2":                               "application/json",
		"/apis/apps/v2/deployments":             "application/json",
		"/apis/nothing.example.com/v1/anything": "text/plain; charset=utf-8",
	} {
		rec := ask(t, s, http.MethodGet, target, nil)
		if got := rec.Header().Get("Content-Type"); rec.Code != http.StatusNotFound || got != want {
			t.Errorf("GET %s = %d %q, want 404 %q", target, rec.Code, got, want)
		}
	}
}

func TestWarningsAboutKinds(t *testing.T) {
	s := start(t)
	for _, c := range []struct{ method, target, body, want string }{
		{http.MethodGet, "/api/v1/namespaces/default/endpoints", "", "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"},
		{http.MethodDelete, "/apis/batch/v1/namespaces/default/jobs/none", "", "child pods are preserved by default"},
		{http.MethodDelete, "/apis/batch/v1/namespaces/default/jobs/none?propagationPolicy=Background", "", ""},
		{
			http.MethodPost, "/api/v1/namespaces/default/pods?dryRun=All",
			`{"metadata":{"name":"p","annotations":{"container.apparmor.security.beta.kubernetes.io/c":"runtime/default"}},"spec":{"containers":[{"name":"c","image":"i"}]}}`,
			"deprecated since v1.30",
		},
	} {
		rec := ask(t, s, c.method, c.target, strings.NewReader(c.body), "Content-Type", "application/json")
		if got := rec.Header().Get("Warning"); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s %s warns %q, want %q (%d %s)", c.method, c.target, got, c.want, rec.Code, rec.Body)
		}
	}
}

func TestTablesOfListsThatAreMade(t *testing.T) {
	s := start(t)
	for _, schema := range []string{`"b"},"spec":{"matchingPrecedence":7`, `"c"},"spec":{"matchingPrecedence":900`, `"a"},"spec":{"matchingPrecedence":800`} {
		body := strings.NewReader(`{"metadata":{"name":` + schema + `,"priorityLevelConfiguration":{"name":"exempt"}}}`)
		if rec := ask(t, s, http.MethodPost, "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas", body); rec.Code != http.StatusCreated {
			t.Fatalf("POST = %d %s", rec.Code, rec.Body)
		}
	}
	for target, want := range map[string][]string{
		"/api/v1/componentstatuses":                             {"etcd-0 Healthy"},
		"/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas":     {"b exempt", "a exempt", "c exempt"},
		"/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/a":   {"a exempt"},
		"/api/v1/componentstatuses/etcd-0?includeObject=None":   {"etcd-0 Healthy"},
		"/api/v1/namespaces/none/configmaps?includeObject=None": nil,
	} {
		rec := ask(t, s, http.MethodGet, target, nil, "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
		var table metav1.Table
		if err := json.Unmarshal(rec.Body.Bytes(), &table); err != nil || table.Kind != "Table" {
			t.Errorf("GET %s = %s: %v", target, rec.Body, err)
			continue
		}
		var got []string
		for _, row := range table.Rows {
			got = append(got, fmt.Sprint(row.Cells[0], " ", row.Cells[1]))
		}
		if !slices.Equal(got, want) {
			t.Errorf("rows of %s = %q, want %q", target, got, want)
		}
	}
}
