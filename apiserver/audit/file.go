// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"io"
	"log/slog"
	"sync"

	"gopkg.in/natefinch/lumberjack.v2"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// FileConfig says where and how long records are kept in files.
type FileConfig struct {
	// Path of the log; "-" is standard output.
	Path string
	// MaxSize in megabytes after which a new file is begun, MaxBackups old files are kept, none longer than MaxAge days. Zero means
	// 100 MB and that old files are kept for ever, as upstream.
	MaxSize, MaxBackups, MaxAge int
}

// File returns a sink that appends one JSON line per event, before the request goes on, and a function that closes the file.
func File(cfg FileConfig, stdout io.Writer, log *slog.Logger) (Sink, io.Closer) {
	if cfg.Path == "-" {
		return lines(stdout, log), io.NopCloser(nil)
	}
	file := &lumberjack.Logger{Filename: cfg.Path, MaxSize: cfg.MaxSize, MaxBackups: cfg.MaxBackups, MaxAge: cfg.MaxAge}
	return lines(file, log), file
}

func lines(to io.Writer, log *slog.Logger) Sink {
	var mu sync.Mutex
	return func(event *auditv1.Event) {
		line, err := json.Marshal(event)
		if err == nil {
			mu.Lock()
			_, err = to.Write(append(line, '\n'))
			mu.Unlock()
		}
		if err != nil {
			log.Error("audit event is lost", "audit_id", event.AuditID, "err", err)
		}
	}
}
