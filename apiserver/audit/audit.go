// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package audit records who asked the API server for what, and what it answered.
package audit

import (
	"context"
	"log/slog"
	"time"

	"kogge.dev/kogge/apiserver/request"
)

// Record is one request that was answered. For watches and streams it is made when they end.
type Record struct {
	State *request.State
	// Code is the HTTP status, also for in-process requests.
	Code int
	// Reason is the authorizer's, where there was one.
	Latency time.Duration
}

// Sink receives records. It must not block.
type Sink func(ctx context.Context, r Record)

// Log returns a sink that writes records as debug lines.
func Log(log *slog.Logger) Sink {
	return func(ctx context.Context, r Record) {
		if !log.Enabled(ctx, slog.LevelDebug) {
			return
		}
		s := r.State
		log.DebugContext(ctx, "request", "verb", s.Info.Verb, "path", s.Info.Path, "user", s.User.Name, "agent", s.UserAgent,
			"code", r.Code, "latency", r.Latency, "audit_id", s.AuditID)
	}
}
