// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/testcluster"
)

// hook is a webhook over TLS that wants a token, and the kubeconfig with which it is reached.
func hook(t *testing.T, answer func(r *http.Request) any) (kubeconfig string) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer hook-token" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(answer(r))
	}))
	t.Cleanup(server.Close)
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}], "+
		"clusters: [{name: a, cluster: {server: '%s/review', certificate-authority-data: %s}}], users: [{name: a, user: {token: hook-token}}]}", server.URL, ca)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWebhooks runs a control plane that asks webhooks who somebody is, and what they may do.
func TestWebhooks(t *testing.T) {
	var asked atomic.Int32
	tokens := hook(t, func(r *http.Request) any {
		asked.Add(1)
		var in authenticationv1.TokenReview
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		out := authenticationv1.TokenReview{}
		if name, ok := strings.CutPrefix(in.Spec.Token, "of-"); ok {
			out.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: name, Groups: []string{"hooked"}}}
		}
		return out
	})
	rights := hook(t, func(r *http.Request) any {
		var in authorizationv1.SubjectAccessReview
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		out := authorizationv1.SubjectAccessReview{}
		if a := in.Spec.ResourceAttributes; a != nil {
			out.Status.Denied = a.Namespace == "kube-system"
			out.Status.Allowed = in.Spec.User == "carol" && a.Resource == "configmaps" && !out.Status.Denied
			out.Status.Reason = "the hook says so"
		}
		return out
	})
	file := filepath.Join(t.TempDir(), "authorization.yaml")
	if err := os.WriteFile(file, []byte(`apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- {type: Node, name: node}
- type: Webhook
  name: rights
  webhook:
    timeout: 5s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: `+rights+`}
    matchConditions: [{expression: "!request.user.startsWith('system:')"}]
- {type: RBAC, name: rbac}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	users, err := openAuthentication(AuthenticationSettings{Webhook: TokenWebhookSettings{ConfigFile: tokens}}, log)
	if err != nil {
		t.Fatal(err)
	}
	c := testcluster.New(t, testcluster.Config{
		Without: control.Components{Controllers: true, Scheduler: true, Cloud: true}, Tokens: users.tokens,
		Authorization: AuthorizationSettings{ConfigFile: file}.authorization(log),
	})
	for _, step := range []struct {
		token, path string
		want        int
	}{
		{"of-carol", "/api/v1/namespaces/default/configmaps", 200},
		{"of-carol", "/api/v1/namespaces/kube-system/configmaps", 403},
		{"of-carol", "/api/v1/namespaces/default/secrets", 403},
		{"of-dave", "/api/v1/namespaces/default/configmaps", 403},
		{"nobody's", "/api/v1/namespaces/default/configmaps", 401},
		{"nobody's", "/api/v1/namespaces/default/configmaps", 401},
	} {
		var status metav1.Status
		var into any
		if step.want != 200 {
			into = &status
		}
		if got := ask(t, c.Handler(), step.token, http.MethodGet, step.path, nil, into); got != step.want {
			t.Errorf("%s: GET %s = %d, want %d", step.token, step.path, got, step.want)
		}
		if step.want == 403 && !strings.Contains(status.Message, "the hook says so") {
			t.Errorf("refused: %s", status.Message)
		}
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("the token webhook was asked %d times about three tokens", n)
	}
	var rules authorizationv1.SelfSubjectRulesReview
	ask(t, c.Handler(), "of-carol", http.MethodPost, "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
		authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "default"}}, &rules)
	if !rules.Status.Incomplete || !strings.Contains(rules.Status.EvaluationError, "webhook authorizer does not support user rule resolution") {
		t.Errorf("rules of a user: %+v", rules.Status)
	}
}

func TestWebhookSettings(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	if _, err := openAuthentication(AuthenticationSettings{Webhook: TokenWebhookSettings{ConfigFile: "/nowhere"}}, log); err == nil ||
		!strings.HasPrefix(err.Error(), "api.authentication.webhook.configFile: kubeconfig /nowhere: ") {
		t.Errorf("error = %v", err)
	}
	if _, err := (AuthorizationSettings{ConfigFile: "/nowhere"}.authorization(log)(nil)); err == nil || !strings.HasPrefix(err.Error(), "api.authorization.configFile: open /nowhere") {
		t.Errorf("error = %v", err)
	}
	for text, want := range map[string]string{
		"{cacheTTL: 1s}":                      "api.authentication.webhook.configFile: required where cacheTTL is given",
		"{configFile: a, cacheTTL: -1s}":      "api.authentication.webhook.cacheTTL: -1s is negative",
		"{configFil: a}":                      `did you mean "configFile"`,
		"{configFile: a, cacheTTL: whenever}": `invalid duration "whenever"`,
	} {
		_, err := ParseSettings([]byte(settingsHead + "api: {authentication: {webhook: " + text + "}}"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	s, err := ParseSettings([]byte(settingsHead + "api: {authentication: {configFile: a, tokenFile: b, webhook: {configFile: c, cacheTTL: 0s}}, authorization: {configFile: d}, encryption: {configFile: e}}"))
	if err != nil || *s.API.Authentication.Webhook.CacheTTL != (metav1.Duration{Duration: 0 * time.Second}) || s.API.Encryption.ConfigFile != "e" || s.API.Authorization.ConfigFile != "d" {
		t.Errorf("settings: %+v, %v", s.API, err)
	}
}
