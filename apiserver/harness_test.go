// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/store/memory"
)

// allowAll authorizes everything but what user "nobody" asks.
type allowAll struct{}

func (allowAll) Authorize(_ context.Context, a *authz.Attributes) (authz.Decision, string, error) {
	if a.User.Name == "nobody" {
		return authz.NoOpinion, "", nil
	}
	return authz.Allow, "", nil
}

// start runs a server on a memory store until the test ends.
func start(t testing.TB, change ...func(*apiserver.Config)) *apiserver.Server {
	t.Helper()
	cfg := apiserver.Config{
		Store: memory.New(), Catalog: catalog.New(), Logger: slog.New(slog.DiscardHandler),
		Services: rest.ServiceConfig{CIDRs: []string{"10.96.0.0/24"}},
		Build:    func(*apiserver.Server) (apiserver.Parts, error) { return apiserver.Parts{Authorizer: allowAll{}}, nil },
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := apiserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v", err)
		}
	})
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// call is one request as scripts write it.
type call struct {
	verb, namespace, name, subresource string
	gvr                                schema.GroupVersionResource
	body                               []byte // YAML
	patch                              types.PatchType
	query                              url.Values
}

// door is one way into the server. It returns the answer as a tree; refusals are status errors.
type door interface {
	do(ctx context.Context, c *call) (map[string]any, error)
	watch(ctx context.Context, c *call) (func() (string, map[string]any, error), error)
}

// raw is HTTP with JSON, as kubectl speaks it.
type raw struct{ handler http.Handler }

func (r raw) request(ctx context.Context, c *call, method string, body []byte, contentType string) *http.Request {
	path := client.PathOf(&client.Request{Resource: c.gvr, Namespace: c.namespace, Name: c.name, Subresource: c.subresource})
	req := httptest.NewRequest(method, path+"?"+c.query.Encode(), bytes.NewReader(body)).WithContext(ctx)
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "tester/1.0")
	return req
}

func (r raw) do(ctx context.Context, c *call) (map[string]any, error) {
	method := map[string]string{
		"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE", "deletecollection": "DELETE",
	}[c.verb]
	contentType, body := "application/yaml", c.body
	if c.patch != "" {
		contentType = string(c.patch)
		data, err := yaml.YAMLToJSON(c.body)
		if err != nil {
			return nil, err
		}
		body = data
	}
	rec := httptest.NewRecorder()
	r.handler.ServeHTTP(rec, r.request(ctx, c, method, body, contentType))
	var out map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil {
		return nil, fmt.Errorf("answer %d %q: %w", rec.Code, rec.Body, err)
	}
	if rec.Code >= 400 {
		status := metav1.Status{}
		if err := json.Unmarshal(rec.Body.Bytes(), &status); err != nil {
			return nil, err
		}
		return nil, &apierrors.StatusError{ErrStatus: status}
	}
	return out, nil
}

// pipeWriter is a response writer that streams into a pipe.
type pipeWriter struct {
	*io.PipeWriter
	header http.Header
	code   chan int
}

func (p *pipeWriter) Header() http.Header  { return p.header }
func (p *pipeWriter) WriteHeader(code int) { p.code <- code }
func (p *pipeWriter) Flush()               {}

func (r raw) watch(ctx context.Context, c *call) (func() (string, map[string]any, error), error) {
	c.query.Set("watch", "true")
	reader, writer := io.Pipe()
	w := &pipeWriter{PipeWriter: writer, header: http.Header{}, code: make(chan int, 1)}
	go func() {
		r.handler.ServeHTTP(w, r.request(ctx, c, http.MethodGet, nil, ""))
		_ = writer.Close()
	}()
	if code := <-w.code; code != http.StatusOK {
		data, _ := io.ReadAll(reader)
		status := metav1.Status{}
		if err := json.Unmarshal(data, &status); err != nil {
			return nil, fmt.Errorf("answer %d %q: %w", code, data, err)
		}
		return nil, &apierrors.StatusError{ErrStatus: status}
	}
	dec := json.NewDecoder(reader)
	return func() (string, map[string]any, error) {
		var ev struct {
			Type   string         `json:"type"`
			Object map[string]any `json:"object"`
		}
		err := dec.Decode(&ev)
		return ev.Type, ev.Object, err
	}, nil
}

// typed is a client backend with Go types: protobuf over HTTP, or in process.
type typed struct {
	backend client.Backend
	scheme  *runtime.Scheme
	catalog *catalog.Catalog
}

// trip sends requests straight to a handler.
type trip struct{ handler http.Handler }

func (t trip) RoundTrip(req *http.Request) (*http.Response, error) {
	reader, writer := io.Pipe()
	w := &pipeWriter{PipeWriter: writer, header: http.Header{}, code: make(chan int, 1)}
	if req.Body == nil {
		req.Body = http.NoBody
	}
	served := req.Clone(req.Context())
	served.RequestURI, served.RemoteAddr = req.URL.RequestURI(), "192.0.2.1:1234"
	go func() {
		t.handler.ServeHTTP(w, served)
		select {
		case w.code <- http.StatusOK:
		default:
		}
		_ = writer.Close()
	}()
	code := <-w.code
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: w.header.Clone(), Body: reader,
		ContentLength: -1, Request: req,
	}, nil
}

func newTyped(t testing.TB, s *apiserver.Server, served *catalog.Catalog, overHTTP bool) typed {
	t.Helper()
	out := typed{scheme: served.Scheme(), catalog: served}
	out.backend = s.Client(request.User{Name: "system:tester"})
	if overHTTP {
		h, err := client.NewHTTP(client.HTTPConfig{Server: "http://kogge.test", UserAgent: "tester/1.0", Catalog: out.catalog, RoundTripper: trip{s.Handler()}})
		if err != nil {
			t.Fatal(err)
		}
		out.backend = h
	}
	return out
}

func (d typed) request(c *call) (*client.Request, error) {
	req := &client.Request{
		Verb: client.Verb(c.verb), Resource: c.gvr, Namespace: c.namespace, Name: c.name, Subresource: c.subresource, PatchType: c.patch,
	}
	if c.verb == "patch" {
		data, err := yaml.YAMLToJSON(c.body)
		if err != nil {
			return nil, err
		}
		req.Patch = data
	} else if len(c.body) > 0 {
		data, err := yaml.YAMLToJSON(c.body)
		if err != nil {
			return nil, err
		}
		tree := &unstructured.Unstructured{}
		if err := json.Unmarshal(data, &tree.Object); err != nil {
			return nil, err
		}
		obj, err := d.scheme.New(tree.GroupVersionKind())
		if err != nil {
			return nil, err
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(tree.Object, obj); err != nil {
			return nil, err
		}
		req.Object = obj
	}
	return req, options(req, c.query)
}

func options(req *client.Request, q url.Values) error {
	switch req.Verb {
	case client.Get:
		req.GetOptions = &metav1.GetOptions{}
		return metav1.Convert_url_Values_To_v1_GetOptions(&q, req.GetOptions, nil)
	case client.List, client.Watch, client.DeleteCollection:
		req.ListOptions = &metav1.ListOptions{}
		return metav1.Convert_url_Values_To_v1_ListOptions(&q, req.ListOptions, nil)
	case client.Create:
		req.CreateOptions = &metav1.CreateOptions{}
		return metav1.Convert_url_Values_To_v1_CreateOptions(&q, req.CreateOptions, nil)
	case client.Update:
		req.UpdateOptions = &metav1.UpdateOptions{}
		return metav1.Convert_url_Values_To_v1_UpdateOptions(&q, req.UpdateOptions, nil)
	case client.Patch:
		req.PatchOptions = &metav1.PatchOptions{}
		return metav1.Convert_url_Values_To_v1_PatchOptions(&q, req.PatchOptions, nil)
	case client.Delete:
		req.DeleteOptions = &metav1.DeleteOptions{}
		return metav1.Convert_url_Values_To_v1_DeleteOptions(&q, req.DeleteOptions, nil)
	}
	return nil
}

func tree(v any) (map[string]any, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	return out, json.Unmarshal(data, &out)
}

func (d typed) do(ctx context.Context, c *call) (map[string]any, error) {
	req, err := d.request(c)
	if err != nil {
		return nil, err
	}
	res, err := d.backend.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	if req.Verb != client.List {
		return tree(res.Object)
	}
	meta, err := tree(res.ListMeta)
	items := []any{}
	for _, obj := range res.Items {
		one, err := tree(obj)
		if err != nil {
			return nil, err
		}
		items = append(items, one)
	}
	return map[string]any{"metadata": meta, "items": items}, err
}

func (d typed) watch(ctx context.Context, c *call) (func() (string, map[string]any, error), error) {
	c.verb = "watch"
	req, err := d.request(c)
	if err != nil {
		return nil, err
	}
	stream, err := d.backend.Watch(ctx, req)
	if err != nil {
		return nil, err
	}
	return func() (string, map[string]any, error) {
		ev, ok := <-stream.Events()
		if !ok {
			return "", nil, io.EOF
		}
		obj, err := tree(ev.Object)
		return string(ev.Type), obj, err
	}, nil
}

// clean drops what differs from run to run.
func clean(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range []string{"uid", "creationTimestamp", "resourceVersion", "time", "lastTransitionTime"} {
			if _, ok := v[key].(string); ok {
				v[key] = "(" + key + ")"
			}
		}
		for k, child := range v {
			v[k] = clean(child)
		}
	case []any:
		for i := range v {
			v[i] = clean(v[i])
		}
	}
	return v
}

func render(v map[string]any) string {
	data, err := yaml.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// refusal renders a status error in lines that scripts match.
func refusal(err error) string {
	var api apierrors.APIStatus
	if !errors.As(err, &api) {
		return "error: " + err.Error() + "\n"
	}
	st := api.Status()
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s: %s\n", st.Code, st.Reason, st.Message)
	if st.Details != nil {
		for _, cause := range st.Details.Causes {
			fmt.Fprintf(&b, "cause %s %s: %s\n", cause.Type, cause.Field, cause.Message)
		}
	}
	return b.String()
}
