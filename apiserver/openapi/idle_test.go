// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// TestIdleDocumentsAreForgotten asks for a document again and again, then after a while, and with its tag in between.
func TestIdleDocumentsAreForgotten(t *testing.T) {
	if _, err := load(); err != nil { // not in the bubble: it is for all tests
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s, made := New(nil), 0
		set := func(version string) {
			s.Set("crd", map[string]Source{"apis/example.com/v1": {Version: version, Make: func() Document {
				made++
				return Document{Paths: map[string]any{}, Schemas: map[string]json.RawMessage{"com.example.v1." + version: []byte(`{"type":"object"}`)}}
			}}})
		}
		ask := func(accept, tag string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(http.MethodGet, "/openapi/v3/apis/example.com/v1", nil)
			r.Header.Set("Accept", accept)
			r.Header.Set("If-None-Match", tag)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			return w
		}
		want := func(when string, n int) {
			t.Helper()
			if made != n {
				t.Fatalf("the document was made %d times %s, want %d", made, when, n)
			}
		}
		set("One")
		var tags []string
		for range 10 {
			tags = tags[:0]
			for _, accept := range []string{jsonDoc, protoV3} {
				w := ask(accept, "")
				if w.Code != http.StatusOK || w.Body.Len() == 0 || w.Header().Get("Content-Type") != accept {
					t.Fatalf("answer = %d, %d bytes of %s, want a document of %s", w.Code, w.Body.Len(), w.Header().Get("Content-Type"), accept)
				}
				tags = append(tags, w.Header().Get("ETag"))
			}
			time.Sleep(idle * 3 / 4)
		}
		want("while it was asked for", 1)
		time.Sleep(2 * idle)
		for i, accept := range []string{jsonDoc, protoV3} {
			if w := ask(accept, tags[i]); w.Code != http.StatusNotModified || w.Header().Get("ETag") != tags[i] {
				t.Errorf("answer to who has %s = %d with the tag %s, want 304 with the same", accept, w.Code, w.Header().Get("ETag"))
			}
		}
		want("when only its tag was asked for", 1)
		if w := ask(protoV3, tags[0]); w.Code != http.StatusOK || w.Header().Get("ETag") != tags[1] {
			t.Errorf("answer to who has another form = %d with the tag %s, want 200 with %s", w.Code, w.Header().Get("ETag"), tags[1])
		}
		want("after nobody had asked for long", 2)
		set("Two")
		if w := ask(jsonDoc, tags[0]); w.Code != http.StatusOK || w.Header().Get("ETag") == tags[0] {
			t.Errorf("answer after a change = %d with the tag %s, want 200 with another", w.Code, w.Header().Get("ETag"))
		}
		want("after a change", 3)
	})
}
