// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"k8s.io/klog/v2" //nolint:depguard // the one file that redirects it
)

// adoptLibraries makes what Kubernetes' libraries log lines of our log. They know one logger for the whole process; this is called before
// a component runs, never for kubectl, which has its own.
func adoptLibraries(log *slog.Logger) {
	klog.SetSlogLogger(slog.New(libraries{log.With("component", "library").Handler()}))
}

// libraries lowers to debug what the libraries call an error and is none: each end of a WebSocket session that we close.
type libraries struct{ slog.Handler }

// Handle implements slog.Handler.
func (l libraries) Handle(ctx context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok && errors.Is(err, net.ErrClosed) {
			r.Level = slog.LevelDebug
		}
		return true
	})
	if !l.Enabled(ctx, r.Level) {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (l libraries) WithAttrs(attrs []slog.Attr) slog.Handler {
	return libraries{l.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (l libraries) WithGroup(name string) slog.Handler { return libraries{l.Handler.WithGroup(name)} }
