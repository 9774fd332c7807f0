// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"log/slog"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapLogger redirects etcd's log: warnings and worse become Info, with their severity; the rest, of which there is much, Debug. A
// fatal error panics, so that Open can return it; when etcd is running it ends the process as it would have anyway.
func zapLogger(log *slog.Logger) *zap.Logger {
	return zap.New(&zapCore{log: log}, zap.WithFatalHook(zapcore.WriteThenPanic))
}

// zapCore is a zapcore.Core on a slog.Logger.
type zapCore struct {
	log    *slog.Logger
	fields []zapcore.Field
}

func level(l zapcore.Level) slog.Level {
	if l >= zapcore.WarnLevel {
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// Enabled implements zapcore.Core.
func (c *zapCore) Enabled(l zapcore.Level) bool {
	return c.log.Enabled(context.Background(), level(l))
}

// With implements zapcore.Core.
func (c *zapCore) With(fields []zapcore.Field) zapcore.Core {
	return &zapCore{log: c.log, fields: append(slices.Clip(c.fields), fields...)}
}

// Check implements zapcore.Core.
func (c *zapCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) || e.Level >= zapcore.DPanicLevel {
		return checked.AddCore(e, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c *zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range c.fields {
		f.AddTo(enc)
	}
	for _, f := range fields {
		f.AddTo(enc)
	}
	attrs := make([]slog.Attr, 0, 2+len(enc.Fields))
	attrs = append(attrs, slog.String("etcd", e.Message))
	if e.Level >= zapcore.WarnLevel {
		attrs = append(attrs, slog.String("severity", e.Level.String()))
	}
	for k, v := range enc.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	c.log.LogAttrs(context.Background(), level(e.Level), "etcd says", attrs...)
	return nil
}

// Sync implements zapcore.Core.
func (c *zapCore) Sync() error { return nil }
