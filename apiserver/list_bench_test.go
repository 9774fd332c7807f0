// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkList measures what the server itself takes for lists of 10,000 pods, by how they are asked for; the answers go nowhere.
func BenchmarkList(b *testing.B) {
	const n = 10_000
	handler := start(b).Handler()
	c := &caller{b, handler}
	for i := range n {
		c.do(http.MethodPost, benchPods, "application/json", fmt.Appendf(nil, benchPod, fmt.Sprintf("p-%06d", i)))
	}
	for _, list := range []struct{ name, accept, query string }{
		{"JSON", "application/json", ""},
		{"protobuf", "application/vnd.kubernetes.protobuf", ""},
		{"label of none", "application/json", "?labelSelector=group=g2"},
		{"page of protobuf", "application/vnd.kubernetes.protobuf", "?limit=500"},
		{"nothing by field", "application/json", "?fieldSelector=spec.nodeName=nowhere"},
	} {
		b.Run(list.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				req := httptest.NewRequestWithContext(b.Context(), http.MethodGet, benchPods+list.query, nil)
				req.Header.Set("Accept", list.accept)
				to := nowhere{http.Header{}}
				if handler.ServeHTTP(to, req); to.header.Get("Content-Type") != list.accept {
					b.Fatalf("an answer of type %s", to.header.Get("Content-Type"))
				}
			}
		})
	}
}

// nowhere takes answers and forgets them.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header            { return n.header }
func (n nowhere) Write(data []byte) (int, error) { return len(data), nil }
func (n nowhere) WriteHeader(int)                {}
