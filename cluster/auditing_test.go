// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"kogge.dev/kogge/apiserver/request"
)

func TestAuditSettings(t *testing.T) {
	dir := t.TempDir()
	policy, log := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "audit.log")
	if err := os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	auditor, run, err := openAudit(AuditSettings{PolicyFile: policy, LogPath: log}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	auditor.Begin(&request.State{AuditID: "the-id", User: request.User{Name: "alice"}}).Stage(auditv1.StageRequestReceived, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(text), `"auditID":"the-id"`) {
		t.Errorf("log holds %q, %v; want the event", text, err)
	}
	none, _, err := openAudit(AuditSettings{}, slog.New(slog.DiscardHandler))
	if none != nil || err != nil {
		t.Errorf("without a policy: %v, %v; want nothing", none, err)
	}
}

func TestAuditSettingsAreChecked(t *testing.T) {
	for text, want := range map[string]string{
		"logPath: /x":    "api.audit.policyFile: required",
		"policyFile: /x": "api.audit.logPath: required",
		"{policyFile: /x, logPath: /y, logMaxAge: -1}": "may not be negative",
		"{polcyFile: /x}": `did you mean "policyFile"`,
	} {
		if strings.HasPrefix(text, "{") {
			text = "api: {audit: " + text + "}"
		} else {
			text = "api: {audit: {" + text + "}}"
		}
		_, err := ParseSettings([]byte("apiVersion: kogge.dev/v1\nkind: Config\n" + text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
