// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"kogge.dev/kogge/apiserver/audit"
)

// AuditSettings say which requests the API server records, and where. The names are those of kube-apiserver's audit flags.
type AuditSettings struct {
	// PolicyFile holds an audit.k8s.io/v1 Policy; without one nothing is recorded.
	PolicyFile string `json:"policyFile,omitempty"`
	// LogPath is a file that gets one JSON line per event; "-" is standard output.
	LogPath string `json:"logPath,omitempty"`
	// LogMaxSize in megabytes after which a new file is begun; default 100. LogMaxBackup old files are kept, none longer than LogMaxAge
	// days; default all.
	LogMaxSize   int `json:"logMaxSize,omitempty"`
	LogMaxBackup int `json:"logMaxBackup,omitempty"`
	LogMaxAge    int `json:"logMaxAge,omitempty"`
	// WebhookConfigFile is a kubeconfig that names the server which gets the events in batches.
	WebhookConfigFile string `json:"webhookConfigFile,omitempty"`
}

func (a *AuditSettings) validate() error {
	switch {
	case a.PolicyFile == "" && (a.LogPath != "" || a.WebhookConfigFile != ""):
		return errors.New("api.audit.policyFile: required where a log path or a webhook is given: a policy says what to record")
	case a.PolicyFile != "" && a.LogPath == "" && a.WebhookConfigFile == "":
		return errors.New("api.audit.logPath: required with a policy, or api.audit.webhookConfigFile")
	case a.LogMaxSize < 0 || a.LogMaxBackup < 0 || a.LogMaxAge < 0:
		return errors.New("api.audit: logMaxSize, logMaxBackup and logMaxAge may not be negative")
	}
	return nil
}

// openAudit makes the auditor that the settings ask for (nil: none) and what keeps its records until its context ends.
func openAudit(s AuditSettings, log *slog.Logger) (*audit.Auditor, func(ctx context.Context) error, error) {
	if s.PolicyFile == "" {
		return nil, func(context.Context) error { return nil }, nil
	}
	policy, err := os.ReadFile(s.PolicyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("api.audit.policyFile: %w", err)
	}
	log = log.With("component", "audit")
	var sinks []audit.Sink
	var runs []func(ctx context.Context) error
	if s.LogPath != "" {
		sink, file := audit.File(audit.FileConfig{Path: s.LogPath, MaxSize: s.LogMaxSize, MaxBackups: s.LogMaxBackup, MaxAge: s.LogMaxAge}, os.Stdout, log)
		sinks = append(sinks, sink)
		runs = append(runs, func(ctx context.Context) error {
			<-ctx.Done()
			return file.Close()
		})
	}
	if s.WebhookConfigFile != "" {
		url, caller, err := openWebhook(s.WebhookConfigFile, webhookTimeout)
		if err != nil {
			return nil, nil, fmt.Errorf("api.audit.webhookConfigFile: %w", err)
		}
		hook := audit.NewWebhook(url, caller, log)
		sinks = append(sinks, hook.Sink)
		runs = append(runs, hook.Run)
	}
	auditor, err := audit.New(policy, sinks...)
	if err != nil {
		return nil, nil, fmt.Errorf("api.audit.policyFile %s: %w", s.PolicyFile, err)
	}
	return auditor, func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		for _, run := range runs {
			g.Go(func() error { return run(ctx) })
		}
		return g.Wait()
	}, nil
}

// webhookTimeout bounds one call of the audit webhook.
const webhookTimeout = 30 * time.Second
