// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/codec/codectest"
	"kogge.dev/kogge/expr"
)

// counter reads the number of reloads with a status.
func counter(t *testing.T, a *Authenticator, status string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(a.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "apiserver_authentication_config_controller_automatic_reloads_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == status {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

const clusterIssuer = "https://kubernetes.default.svc"

func files() codectest.Kind[*apiserver.AuthenticationConfiguration] {
	ours, theirs := expr.NewCompiler(), authenticationcel.NewDefaultCompiler()
	return codectest.Kind[*apiserver.AuthenticationConfiguration]{
		Name: "AuthenticationConfiguration", Versions: codec.APIServerVersions,
		Judge: func(file *apiserver.AuthenticationConfiguration) error {
			err := validation.ValidateAuthenticationConfiguration(theirs, file, []string{clusterIssuer}).ToAggregate()
			if err == nil {
				return nil
			}
			return errors.New(strings.ReplaceAll(err.Error(), `{"Path"`, `{"path"`)) // Values have JSON names in our messages.
		},
		Parse: func(text []byte) (runtime.Object, error) {
			c, err := parse(text, ours, []string{clusterIssuer})
			if err != nil {
				return nil, err
			}
			return &c.file, nil
		},
	}
}

func TestVersionsAreAlike(t *testing.T) { files().SameFields(t) }

const fileHead = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"

// TestRefusalsAreUpstreams compares with upstream, word by word.
func TestRefusalsAreUpstreams(t *testing.T) {
	cases, err := os.ReadFile(filepath.Join("testdata", "files.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files().Compare(t, strings.Split(string(cases), "\n---\n"), 20)
}

func TestFilesOfOtherKinds(t *testing.T) {
	for text, want := range map[string]string{
		"":                "empty config data",
		"kind: A":         "Object 'apiVersion' is missing",
		"apiVersion: a/b": "Object 'Kind' is missing",
		"{apiVersion: apiserver.config.k8s.io/v2, kind: AuthenticationConfiguration}": `no kind "AuthenticationConfiguration" is registered for version "apiserver.config.k8s.io/v2"`,
		fileHead + "jwt: [{issuer: {url: a, url: b}}]":                                `key "url" already set`,
		fileHead + "jwt: {}": "cannot unmarshal",
		fileHead + "jwt: [{issuer: {url: https://a, audiences: [b], egressSelectorType: cluster}, claimMappings: {username: {claim: sub, prefix: ''}}}]": "egress selectors are not supported",
	} {
		if _, err := parse([]byte(text), expr.NewCompiler(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestMappings holds what users claims make.
func TestMappings(t *testing.T) {
	for _, c := range []struct {
		name, rules, claims string
		want                request.User
		err                 string
	}{
		{
			name: "expressions",
			rules: `
    username: {expression: '"u:" + claims.sub'}
    groups: {expression: 'claims.roles.split(",")'}
    uid: {expression: 'claims.n.d["e-f"]'}
    extra: [{key: example.org/tenant, valueExpression: 'claims.tenants'}, {key: example.org/none, valueExpression: '""'}]`,
			claims: `{"sub": "a", "roles": "x,,y", "n": {"d": {"e-f": "7"}}, "tenants": ["t", "", "v"]}`,
			want:   request.User{Name: "u:a", UID: "7", Groups: []string{"x", "y"}, Extra: map[string][]string{"example.org/tenant": {"t", "v"}}},
		},
		{
			name:   "names that CEL can't spell",
			rules:  `{username: {expression: 'claims.a__dot__b'}, groups: {expression: 'claims.list[0].x__dash__y'}}`,
			claims: `{"a.b": "dotted", "list": [{"x-y": ["g"]}]}`,
			want:   request.User{Name: "dotted", Groups: []string{"g"}},
		},
		{name: "claims", rules: `{username: {claim: email, prefix: ""}, uid: {claim: sub}}`, claims: `{"email": "a@b", "email_verified": true, "sub": "1"}`, want: request.User{Name: "a@b", UID: "1"}},
		{name: "no groups", rules: `{username: {claim: sub, prefix: ""}, groups: {claim: g, prefix: ""}}`, claims: `{"sub": "1"}`, want: request.User{Name: "1"}},
		{name: "null groups", rules: `{username: {claim: sub, prefix: ""}, groups: {expression: 'claims.?g.orValue(null)'}}`, claims: `{"sub": "1"}`, want: request.User{Name: "1"}},
		{name: "unverified", rules: `{username: {claim: email, prefix: ""}}`, claims: `{"email": "a@b", "email_verified": false}`, err: "username: email not verified"},
		{name: "empty", rules: `{username: {expression: 'claims.sub'}}`, claims: `{"sub": ""}`, err: "username: the expression gives an empty name"},
		{name: "number", rules: `{username: {expression: 'claims.sub'}}`, claims: `{"sub": 1}`, err: "username: expression must return a string"},
		{name: "absent", rules: `{username: {expression: 'claims.sub'}}`, claims: `{}`, err: "username: expression 'claims.sub' resulted in error: no such key: sub"},
		{name: "groups of numbers", rules: `{username: {claim: sub, prefix: ""}, groups: {expression: 'claims.g'}}`, claims: `{"sub": "a", "g": [1]}`, err: "groups: expression must return a string or a list of strings"},
		{name: "rule", rules: "{username: {claim: sub, prefix: ''}}\n  claimValidationRules: [{expression: 'claims.hd == \"a\"', message: wrong domain}]", claims: `{"sub": "a", "hd": "b"}`, err: `claim validation rule: validation expression 'claims.hd == "a"' failed: wrong domain`},
		{name: "required", rules: "{username: {claim: sub, prefix: ''}}\n  claimValidationRules: [{claim: hd, requiredValue: a}]", claims: `{"sub": "a", "hd": "b"}`, err: `required claim "hd" is "b", not "a"`},
		{name: "user rule", rules: "{username: {claim: sub, prefix: ''}}\n  userValidationRules: [{expression: '!user.username.startsWith(\"system:\")', message: reserved}]", claims: `{"sub": "system:admin"}`, err: "failed: reserved"},
		{name: "a group of the cluster", rules: "{username: {claim: sub, prefix: ''}, groups: {claim: g, prefix: ''}}\n  userValidationRules: [{expression: '!user.groups.exists(g, g.startsWith(\"system:\"))'}]", claims: `{"sub": "a", "g": ["b", "system:masters"]}`, err: "failed"},
		{name: "no group of the cluster", rules: "{username: {claim: sub, prefix: ''}, groups: {claim: g, prefix: ''}}\n  userValidationRules: [{expression: '!user.groups.exists(g, g.startsWith(\"system:\"))'}]", claims: `{"sub": "a"}`, want: request.User{Name: "a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := fileHead + "jwt:\n- issuer: {url: https://a, audiences: [b]}\n  claimMappings: " + c.rules + "\n"
			if !strings.HasPrefix(c.rules, "{") {
				text = strings.Replace(text, ": \n", ":\n", 1)
			}
			parsed, err := parse([]byte(text), expr.NewCompiler(), nil)
			if err != nil {
				t.Fatal(err)
			}
			var claims map[string]json.RawMessage
			if err := json.Unmarshal([]byte(c.claims), &claims); err != nil {
				t.Fatal(err)
			}
			got, err := parsed.issuers[0].user(context.Background(), claims)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error = %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, *got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnonymousSection(t *testing.T) {
	for text, want := range map[string][]string{
		"":                              nil,
		"anonymous: {enabled: false}\n": {},
		"anonymous: {enabled: true}\n":  {"/livez", "/api"},
		"anonymous: {enabled: true, conditions: [{path: /api}]}\n": {"/api"},
	} {
		a, err := New(Config{Path: write(t, fileHead+text), Compiler: expr.NewCompiler(), Log: discard})
		if err != nil {
			t.Fatal(err)
		}
		allowed := a.Anonymous()
		if (allowed == nil) != (want == nil) {
			t.Errorf("%q: allowed = %v", text, allowed != nil)
		}
		if allowed == nil {
			continue
		}
		got := []string{}
		for _, path := range []string{"/livez", "/api"} {
			if allowed(path) {
				got = append(got, path)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

func FuzzParse(f *testing.F) {
	cases, err := os.ReadFile(filepath.Join("testdata", "files.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	for text := range strings.SplitSeq(string(cases), "\n---\n") {
		f.Add(fileHead + text)
	}
	compiler := expr.NewCompiler()
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parse([]byte(text), compiler, nil)
		if err != nil {
			return
		}
		// What was accepted survives being written and read again.
		again, err := yaml.Marshal(c.file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse(again, compiler, nil); err != nil {
			t.Errorf("%s: %v", again, err)
		}
	})
}

var discard = slog.New(slog.DiscardHandler)
