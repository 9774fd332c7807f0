// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"net/http"
	"testing"
)

// TestInsideAnswersWithoutABody asks often: the handler is done before its answer is looked at.
func TestInsideAnswersWithoutABody(t *testing.T) {
	s := &Server{}
	s.stopping, s.stop = context.WithCancel(t.Context())
	defer s.stop()
	trip := &inside{server: s, handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })}
	for range 2000 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "https://localhost/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := trip.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusNoContent {
			t.Fatalf("status = %d, want %d", resp.StatusCode, http.StatusNoContent)
		}
		_ = resp.Body.Close()
	}
	s.streams.close()
}
