// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"regexp"

	"github.com/rogpeppe/go-internal/testscript"

	"kogge.dev/kogge/apiserver/authn/oidc/oidctest"
)

// inScript lets what is made for tests be made in a story.
type inScript struct{ *testscript.TestScript }

func (inScript) Helper()             {}
func (s inScript) Fatal(args ...any) { s.Fatalf("%s", fmt.Sprint(args...)) }
func (s inScript) Cleanup(fn func()) { s.Defer(fn) }

// issued is an issuer of tokens on node 0, with its key.
type issued struct {
	*oidctest.Provider

	key oidctest.Key
}

// issuer FILE RULES: an issuer of tokens on node 0, and an AuthenticationConfiguration for it whose rules are a file's.
func issuer(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: issuer FILE RULES")
	}
	m := of(ts)
	var listener net.Listener
	ts.Check(m.inside(0, func() (err error) {
		listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		return err
	}))
	p := oidctest.NewOn(inScript{ts}, listener)
	m.issuer = &issued{Provider: p, key: p.Rotate(inScript{ts}, "1", "ES256")}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(p.File("\n"+ts.ReadFile(args[1]))), 0o600))
}

var serverOf = regexp.MustCompile(`server: (\S+)`)

// issue USER FILE GROUPS...: a kubeconfig with a token of the issuer.
func issue(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: issue USER FILE GROUPS...")
	}
	m := of(ts)
	admin, err := os.ReadFile(m.kubeconfig())
	ts.Check(err)
	server := serverOf.FindSubmatch(admin)
	if server == nil {
		ts.Fatalf("no server in %s", m.kubeconfig())
	}
	token := m.issuer.Sign(inScript{ts}, m.issuer.key, oidctest.Object{"sub": args[0], "groups": args[2:]})
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}],
clusters: [{name: a, cluster: {server: '%s', certificate-authority: %s/pki/ca.crt}}], users: [{name: a, user: {token: %s}}]}
`, server[1], m.data(0), token), 0o600))
}
