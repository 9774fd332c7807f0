// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver/authn/oidc/oidctest"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/testcluster"
)

const oidcRules = `
  claimMappings:
    username: {claim: sub, prefix: "oidc:"}
    groups: {claim: groups, prefix: ""}
`

// ask sends a request with a token and decodes the answer, unless into is nil.
func ask(t *testing.T, h http.Handler, token, method, path string, body, into any) int {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(text))
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatalf("%s: %v", w.Body, err)
		}
	}
	return w.Code
}

// TestTokensOfOthers follows tokens of an issuer and of a file through a whole control plane.
func TestTokensOfOthers(t *testing.T) {
	dir := t.TempDir()
	provider := oidctest.New(t)
	key := provider.Rotate(t, "1", "ES256")
	settings := AuthenticationSettings{ConfigFile: filepath.Join(dir, "authentication.yaml"), TokenFile: filepath.Join(dir, "tokens.csv")}
	for path, text := range map[string]string{settings.ConfigFile: provider.File(oidcRules), settings.TokenFile: "s3cret,bob,7,\"ops,dev\"\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	users, err := openAuthentication(settings, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := testcluster.New(t, testcluster.Config{Without: control.Components{Controllers: true, Scheduler: true, Cloud: true}, Tokens: users.tokens, Runners: users.runners})
	alice := provider.Sign(t, key, oidctest.Object{"groups": []string{"readers"}})
	if _, err := client.Of[*rbacv1.ClusterRoleBinding](c.Admin()).Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "readers"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:aggregate-to-view"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "readers"}},
	}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ask(t, c.Handler(), alice, http.MethodGet, "/api/v1/namespaces/default/configmaps", nil, nil) != http.StatusOK; {
		if time.Now().After(deadline) {
			t.Fatal("a token of the issuer is not believed")
		}
		<-time.After(20 * time.Millisecond)
	}
	for path, want := range map[string]int{"/api/v1/namespaces/default/configmaps": 200, "/api/v1/namespaces/default/secrets": 403} {
		if got := ask(t, c.Handler(), alice, http.MethodGet, path, nil, nil); got != want {
			t.Errorf("GET %s = %d, want %d", path, got, want)
		}
	}
	if got := ask(t, c.Handler(), provider.Sign(t, key, oidctest.Object{"aud": "x"}), http.MethodGet, "/api", nil, nil); got != 401 {
		t.Errorf("a token for another audience: %d, want 401", got)
	}
	var self authenticationv1.SelfSubjectReview
	ask(t, c.Handler(), "s3cret", http.MethodPost, "/apis/authentication.k8s.io/v1/selfsubjectreviews", authenticationv1.SelfSubjectReview{}, &self)
	want := authenticationv1.UserInfo{Username: "bob", UID: "7", Groups: []string{"ops", "dev", "system:authenticated"}}
	if diff := cmp.Diff(want, self.Status.UserInfo); diff != "" {
		t.Error(diff)
	}
	reviews := client.Of[*authenticationv1.TokenReview](c.Admin())
	for name, r := range map[string]struct {
		spec authenticationv1.TokenReviewSpec
		want string
	}{
		"the server's audience": {authenticationv1.TokenReviewSpec{Token: alice}, "oidc:alice"},
		"named":                 {authenticationv1.TokenReviewSpec{Token: alice, Audiences: []string{control.Issuer, "x"}}, "oidc:alice"},
		"another audience":      {authenticationv1.TokenReviewSpec{Token: alice, Audiences: []string{"x"}}, ""},
		"unknown":               {authenticationv1.TokenReviewSpec{Token: "x"}, ""},
		"of the file":           {authenticationv1.TokenReviewSpec{Token: "s3cret"}, "bob"},
	} {
		got, err := reviews.Create(t.Context(), &authenticationv1.TokenReview{Spec: r.spec})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Status.User.Username != r.want || got.Status.Authenticated != (r.want != "") {
			t.Errorf("%s: %+v, want %q", name, got.Status, r.want)
		}
		if r.want != "" && !cmp.Equal(got.Status.Audiences, []string{control.Issuer}) {
			t.Errorf("%s: audiences %q", name, got.Status.Audiences)
		}
	}
}

func TestAuthenticationFilesAreChecked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("a,b"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]AuthenticationSettings{
		"api.authentication.configFile: open /nowhere": {ConfigFile: "/nowhere"},
		"api.authentication.configFile: " + path:       {ConfigFile: path},
		"api.authentication.tokenFile: open /nowhere":  {TokenFile: "/nowhere"},
		"at least 3 columns":                           {TokenFile: path},
	} {
		if _, err := openAuthentication(s, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", s, err, want)
		}
	}
}
