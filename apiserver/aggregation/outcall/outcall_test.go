// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package outcall_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"testing"

	"kogge.dev/kogge/apiserver/aggregation/outcall"
)

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, media, body string
		code              int
		want              string
	}{
		{"a status", "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"not today"}`, 500, "not today"},
		{"a status that comes as success", "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"not today"}`, 200, "not today"},
		{"words", "text/plain", "no such thing\n", 500, `an error on the server ("no such thing") has prevented the request from succeeding`},
		{"what is no text", "application/json", `{"secret":"x"}`, 500, `an error on the server ("unknown") has prevented the request from succeeding`},
		{"nothing there", "text/plain", "secret", 404, "the server could not find the requested resource"},
		{"another place", "text/plain", "secret", 302, "the server responded with the status code 302 but did not return more information"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.media)
				w.WriteHeader(c.code)
				_, _ = w.Write([]byte(c.body))
			}))
			defer s.Close()
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
			var out any
			err := outcall.New(nil).Call(t.Context(), outcall.Target{URL: &s.URL, CABundle: ca}, 0, struct{}{}, &out)
			if err == nil || err.Error() != c.want {
				t.Errorf("Call() = %v, want %s", err, c.want)
			}
		})
	}
}
