// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fairness_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"kogge.dev/kogge/apiserver/fairness"
	"kogge.dev/kogge/apiserver/request"
)

func ask(h http.Handler, verb, subresource string, groups ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	s := &request.State{Info: request.Info{IsResource: true, Verb: verb, Subresource: subresource}, User: request.User{Groups: groups}}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r.WithContext(request.With(r.Context(), s)))
	return w
}

func TestLimitRefusesTheOneTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		held := true
		h := fairness.Limit(fairness.Config{MaxReads: 2, MaxWrites: 1})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if held && request.From(r.Context()).Info.Verb == "list" {
				<-release
			}
			w.WriteHeader(http.StatusOK)
		}))
		for range 2 {
			go ask(h, "list", "")
		}
		synctest.Wait()
		w := ask(h, "get", "")
		if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" {
			t.Errorf("third read: code %d, Retry-After %q; want 429 and 1", w.Code, w.Header().Get("Retry-After"))
		}
		for _, c := range []struct{ name, verb, sub, group string }{
			{"a write", "create", "", ""}, {"a watch", "watch", "", ""}, {"logs", "get", "log", ""}, {"an administrator", "get", "", request.GroupMasters},
		} {
			if w := ask(h, c.verb, c.sub, c.group); w.Code != http.StatusOK {
				t.Errorf("%s beside full reads: code %d, want 200", c.name, w.Code)
			}
		}
		held = false
		close(release)
		synctest.Wait()
		if w := ask(h, "get", ""); w.Code != http.StatusOK {
			t.Errorf("read after release: code %d, want 200", w.Code)
		}
	})
}
