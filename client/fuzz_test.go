// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds/catalog"
)

// FuzzAnswer reads arbitrary answers of a server, as one object and as the frames of a watch: whatever comes, reading ends, and
// an object that it yields is not nil.
func FuzzAnswer(f *testing.F) {
	f.Add(mediaJSON, []byte(`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p"}}`), true)
	f.Add(mediaJSON, []byte(`{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1"}}{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1"}}`), false)
	f.Add(mediaProtobuf, []byte("k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x00\x1a\x00\x22\x00"), true)
	f.Add(mediaProtobuf, []byte("\x00\x00\x00\x05k8s\x00\x0a"), true)
	f.Add("text/plain", []byte("no"), true)
	h, err := NewHTTP(HTTPConfig{Server: "http://127.0.0.1:1", Catalog: catalog.New()})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte, known bool) {
		req := &Request{Into: func() runtime.Object { return &corev1.Pod{} }}
		if !known {
			req.Into = func() runtime.Object { return &unstructured.Unstructured{} }
		}
		answer := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(bytes.NewReader(body))}
		defer answer.Body.Close()
		if obj, err := h.decode(answer, body, req); err == nil && obj == nil {
			t.Error("decode yields neither an object nor an error")
		}
		next, err := h.decoder(answer, req)
		if err != nil {
			return
		}
		for range len(body) + 1 {
			event, err := next()
			if err != nil {
				return
			}
			if event.Object == nil {
				t.Error("a frame yields neither an object nor an error")
			}
		}
		t.Errorf("%d bytes hold more than as many frames", len(body))
	})
}
