// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authn_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"

	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/apiserver/reviewhook"
)

// TestWebhookAudiences holds for which audiences a webhook's answer is good.
func TestWebhookAudiences(t *testing.T) {
	var asked authenticationv1.TokenReview
	var answer authenticationv1.TokenReviewStatus
	failures := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if failures > 0 {
			failures--
			http.Error(w, "soon", http.StatusInternalServerError)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		_ = json.NewEncoder(w).Encode(authenticationv1.TokenReview{Status: answer})
	}))
	defer server.Close()
	hook := authn.Webhook{Server: &reviewhook.Server{URL: server.URL, Client: server.Client()}, Audiences: []string{"api"}}
	known := authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "a", Extra: map[string]authenticationv1.ExtraValue{"k": {"v"}}}}
	withAudiences := known
	withAudiences.Audiences = []string{"x", "y"}
	for _, c := range []struct {
		name   string
		answer authenticationv1.TokenReviewStatus
		ask    []string
		want   []string
		err    string
	}{
		{"a webhook without audiences", known, []string{"api", "x"}, []string{"api"}, ""},
		{"a webhook without audiences, for others", known, []string{"x"}, nil, ""},
		{"a webhook with audiences", withAudiences, []string{"y", "z"}, []string{"y"}, ""},
		{"a webhook with audiences, for others", withAudiences, []string{"api"}, nil, ""},
		{"nobody", authenticationv1.TokenReviewStatus{}, []string{"api"}, nil, ""},
		{"nobody, with a reason", authenticationv1.TokenReviewStatus{Error: "expired"}, []string{"api"}, nil, "expired"},
	} {
		answer = c.answer
		failures = 0
		if c.name == "nobody" {
			failures = 1
		}
		user, ok, err := hook.AuthenticateToken(t.Context(), "the token", c.ask)
		if ok != (c.want != nil) || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, %v", c.name, ok, err)
			continue
		}
		if ok && (!cmp.Equal(user.Audiences, c.want) || user.User.Name != "a" || user.User.Extra["k"][0] != "v") {
			t.Errorf("%s: %+v", c.name, user)
		}
		if asked.Spec.Token != "the token" || !cmp.Equal(asked.Spec.Audiences, c.ask) || asked.Kind != "TokenReview" {
			t.Errorf("%s: asked %+v", c.name, asked)
		}
	}
	hook.Server = &reviewhook.Server{URL: "https://127.0.0.1:1", Client: &http.Client{Timeout: time.Second}}
	if _, ok, err := hook.AuthenticateToken(t.Context(), "x", nil); ok || err == nil || !strings.HasPrefix(err.Error(), "ask the authentication webhook: ") {
		t.Errorf("a webhook that is away: %v, %v", ok, err)
	}
}
