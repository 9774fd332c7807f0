// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/kinds/catalog"
)

// Wire formats.
const (
	mediaJSON     = "application/json"
	mediaProtobuf = "application/vnd.kubernetes.protobuf"
)

// HTTPConfig says how to reach an API server.
type HTTPConfig struct {
	// Server is the base URL, https://host:port[/path].
	Server string
	// TLS holds the roots and, for certificate clients, the certificate. Required for https.
	TLS *tls.Config
	// Token returns the bearer token for each request; nil for certificate clients.
	Token func() (string, error)
	// UserAgent names the component: "kogge-kubelet/v1.36.3".
	UserAgent string
	// Impersonate sends Impersonate-User when not empty.
	Impersonate string
	// Catalog of built-in kinds; required.
	Catalog *catalog.Catalog
	// Dial replaces the transport's round trips, in tests.
	RoundTripper http.RoundTripper
}

// HTTP is a Backend over the network: protobuf for built-in kinds, JSON for others.
type HTTP struct {
	config HTTPConfig
	base   *url.URL
	client *http.Client
	scheme *runtime.Scheme
	proto  *protobuf.Serializer
	frames *protobuf.RawSerializer
	json   *json.Serializer
}

var _ Backend = (*HTTP)(nil)

// NewHTTP makes a backend. It opens no connection yet.
func NewHTTP(config HTTPConfig) (*HTTP, error) {
	base, err := url.Parse(config.Server)
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("server %q is not a URL like https://host:6443", config.Server)
	}
	trip := config.RoundTripper
	if trip == nil {
		transport := &http.Transport{
			TLSClientConfig: config.TLS, Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 4,
			TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 90 * time.Second, DisableCompression: true,
		}
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP1(true)
		transport.Protocols.SetHTTP2(true)
		// A dead connection is found by pings, as client-go does, so that watches don't hang on a vanished server.
		transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second}
		trip = transport
	}
	scheme := config.Catalog.Scheme()
	return &HTTP{
		config: config, base: base, client: &http.Client{Transport: trip}, scheme: scheme,
		proto: protobuf.NewSerializer(scheme, scheme), frames: protobuf.NewRawSerializer(scheme, scheme),
		json: json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{}),
	}, nil
}

// Client returns the HTTP client with the backend's identity, for paths outside the resource API.
func (h *HTTP) Client() *http.Client { return h.client }

// Do implements Backend.
func (h *HTTP) Do(ctx context.Context, req *Request) (*Result, error) {
	resp, err := h.send(ctx, req, false)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: read answer: %w", req.Verb, req.Resource.Resource, err)
	}
	obj, err := h.decode(resp, body, req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: decode answer: %w", req.Verb, req.Resource.Resource, err)
	}
	if status, ok := obj.(*metav1.Status); ok && status.Status == metav1.StatusFailure {
		return nil, &apierrors.StatusError{ErrStatus: *status}
	}
	if req.Verb != List {
		return &Result{Object: obj, Created: resp.StatusCode == http.StatusCreated}, nil
	}
	items, err := meta.ExtractList(obj)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", req.Resource.Resource, err)
	}
	list, err := meta.ListAccessor(obj)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", req.Resource.Resource, err)
	}
	return &Result{Items: items, ListMeta: metav1.ListMeta{
		ResourceVersion: list.GetResourceVersion(), Continue: list.GetContinue(), RemainingItemCount: list.GetRemainingItemCount(),
	}}, nil
}

// builtIn reports whether the request's types are in the scheme, so that protobuf can be used.
func (h *HTTP) builtIn(req *Request) bool {
	if req.Into != nil {
		_, dynamic := req.Into().(runtime.Unstructured)
		return !dynamic
	}
	return true
}

func (h *HTTP) decode(resp *http.Response, body []byte, req *Request) (runtime.Object, error) {
	if len(body) == 0 {
		return &metav1.Status{Status: metav1.StatusSuccess}, nil
	}
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if media == mediaProtobuf {
		obj, _, err := h.proto.Decode(body, nil, nil)
		return obj, err
	}
	if media != mediaJSON {
		return nil, statusOf(resp, body, req)
	}
	if h.builtIn(req) {
		obj, _, err := h.json.Decode(body, nil, nil)
		return obj, err
	}
	return decodeDynamic(body)
}

// decodeDynamic reads JSON of a type that Go does not know, or a Status.
func decodeDynamic(body []byte) (runtime.Object, error) {
	obj, gvk, err := unstructured.UnstructuredJSONScheme.Decode(body, nil, nil)
	if err != nil {
		return nil, err
	}
	if gvk.Kind == "Status" && gvk.GroupVersion() == metav1.Unversioned {
		status := &metav1.Status{}
		err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.(*unstructured.Unstructured).Object, status)
		return status, err
	}
	return obj, nil
}

// send makes and performs the HTTP request and turns refusals into status errors.
func (h *HTTP) send(ctx context.Context, req *Request, stream bool) (*http.Response, error) {
	method, body, contentType, err := h.body(req)
	if err != nil {
		return nil, err
	}
	query, err := queryOf(req)
	if err != nil {
		return nil, err
	}
	target := *h.base
	target.Path = strings.TrimSuffix(target.Path, "/") + PathOf(req)
	target.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if err := h.headers(r, req, contentType, stream); err != nil {
		return nil, err
	}
	resp, err := h.client.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer resp.Body.Close()
	refusal, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read refusal: %w", err)
	}
	return nil, h.refusal(resp, refusal, req)
}

func (h *HTTP) headers(r *http.Request, req *Request, contentType string, stream bool) error {
	proto, as := mediaProtobuf, ""
	if stream {
		proto += ";stream=watch"
	}
	if req.Metadata {
		as = ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
		if req.Verb == List {
			as = ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
		}
	}
	accept := proto + as + "," + mediaJSON + as
	if !h.builtIn(req) {
		accept = mediaJSON
	}
	r.Header.Set("Accept", accept)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if h.config.UserAgent != "" {
		r.Header.Set("User-Agent", h.config.UserAgent)
	}
	if h.config.Impersonate != "" {
		r.Header.Set("Impersonate-User", h.config.Impersonate)
	}
	if h.config.Token != nil {
		token, err := h.config.Token()
		if err != nil {
			return fmt.Errorf("read bearer token: %w", err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return nil
}

// refusal turns an error answer into a status error.
func (h *HTTP) refusal(resp *http.Response, body []byte, req *Request) error {
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if media == mediaProtobuf || media == mediaJSON {
		if obj, err := h.decode(resp, body, req); err == nil {
			if status, ok := obj.(*metav1.Status); ok {
				return &apierrors.StatusError{ErrStatus: *status}
			}
		}
	}
	return statusOf(resp, body, req)
}

func statusOf(resp *http.Response, body []byte, req *Request) error {
	return apierrors.NewGenericServerResponse(resp.StatusCode, string(req.Verb), req.Resource.GroupResource(), req.Name, string(body), 0, true)
}

// body encodes what the verb sends.
func (h *HTTP) body(req *Request) (method string, body []byte, contentType string, err error) {
	switch req.Verb {
	case Get, List, Watch:
		return http.MethodGet, nil, "", nil
	case Create, Update:
		method = http.MethodPost
		if req.Verb == Update {
			method = http.MethodPut
		}
		body, contentType, err = h.encode(req, req.Object)
		return method, body, contentType, err
	case Patch:
		kind := req.PatchType
		if kind == "" {
			kind = types.StrategicMergePatchType
		}
		return http.MethodPatch, req.Patch, string(kind), nil
	case Delete, DeleteCollection:
		if req.DeleteOptions == nil {
			return http.MethodDelete, nil, "", nil
		}
		opts := *req.DeleteOptions
		opts.APIVersion, opts.Kind = "v1", "DeleteOptions"
		var buf bytes.Buffer
		err = h.json.Encode(&opts, &buf)
		return http.MethodDelete, buf.Bytes(), mediaJSON, err
	}
	return "", nil, "", fmt.Errorf("verb %q is not one of the API's", req.Verb)
}

func (h *HTTP) encode(req *Request, obj runtime.Object) ([]byte, string, error) {
	if obj == nil {
		return nil, "", errors.New("request has no object")
	}
	if _, dynamic := obj.(runtime.Unstructured); dynamic {
		var buf bytes.Buffer
		err := unstructured.UnstructuredJSONScheme.Encode(obj, &buf)
		return buf.Bytes(), mediaJSON, err
	}
	gvks, _, err := h.scheme.ObjectKinds(obj)
	if err != nil {
		return nil, "", err
	}
	gvk := gvks[0]
	for _, known := range gvks {
		if known.GroupVersion() == req.Resource.GroupVersion() {
			gvk = known
		}
	}
	obj = obj.DeepCopyObject()
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	media, encode := mediaProtobuf, h.proto.Encode
	if _, ok := obj.(interface{ Marshal() ([]byte, error) }); !ok {
		media, encode = mediaJSON, h.json.Encode
	}
	var buf bytes.Buffer
	if err := encode(obj, &buf); err != nil {
		return nil, "", fmt.Errorf("encode %s: %w", gvk.Kind, err)
	}
	return buf.Bytes(), media, nil
}

// PathOf returns the URL path of a request: /api/v1/... or /apis/group/version/...
func PathOf(req *Request) string {
	var b strings.Builder
	if req.Resource.Group == "" {
		b.WriteString("/api/" + req.Resource.Version)
	} else {
		b.WriteString("/apis/" + req.Resource.Group + "/" + req.Resource.Version)
	}
	if req.Namespace != "" {
		b.WriteString("/namespaces/" + req.Namespace)
	}
	b.WriteString("/" + req.Resource.Resource)
	if req.Name != "" && req.Verb != Watch {
		b.WriteString("/" + req.Name)
		if req.Subresource != "" {
			b.WriteString("/" + req.Subresource)
		}
	}
	return b.String()
}

// queryOf encodes the verb's options.
func queryOf(req *Request) (url.Values, error) {
	var opts runtime.Object
	switch {
	case req.Verb == List || req.Verb == Watch || req.Verb == DeleteCollection:
		list := metav1.ListOptions{}
		if req.ListOptions != nil {
			list = *req.ListOptions
		}
		list.Watch = req.Verb == Watch
		if list.Watch && req.Name != "" {
			list.FieldSelector = "metadata.name=" + req.Name
		}
		opts = &list
	case req.Verb == Get && req.GetOptions != nil:
		opts = req.GetOptions
	case req.Verb == Create && req.CreateOptions != nil:
		opts = req.CreateOptions
	case req.Verb == Update && req.UpdateOptions != nil:
		opts = req.UpdateOptions
	case req.Verb == Patch && req.PatchOptions != nil:
		opts = req.PatchOptions
	default:
		return nil, nil
	}
	query, err := metav1.ParameterCodec.EncodeParameters(opts, metav1.SchemeGroupVersion)
	if err != nil {
		return nil, fmt.Errorf("encode options of %s: %w", req.Verb, err)
	}
	return query, nil
}
