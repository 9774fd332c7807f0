// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package reload applies configuration files again when they change.
package reload

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"
)

// Times of a File.
const (
	// settle is how long the folder must be quiet before the file is read: editors write in several steps.
	settle = 100 * time.Millisecond
	// again is when content is tried again that could not be applied for a reason that may pass.
	again = time.Minute
)

// ErrPasses marks what Apply could not do now, but perhaps later with the same content: a server that is not reached yet.
var ErrPasses = errors.New("may pass")

// File is one file that is applied again when it changes. What was applied before stays in force when the new content is refused; log
// and metrics say so.
type File struct {
	path  string
	apply func(ctx context.Context, content []byte) error
	log   *slog.Logger
	// judged is the sum of the content that was applied or refused for good: the content itself may hold keys.
	judged [sha256.Size]byte

	total *prometheus.CounterVec
	last  *prometheus.GaugeVec
}

// Config of a File. All fields are required.
type Config struct {
	Path string
	// Name of the subsystem in metrics, apiserver_NAME_automatic_reloads_total, and in the log.
	Name string
	// Apply puts new content in force, whole, or returns an error and leaves all as it was.
	Apply func(ctx context.Context, content []byte) error
	Log   *slog.Logger
}

// Open reads a file. The caller puts its content in force; Run watches for the next.
func Open(config Config) (*File, []byte, error) {
	content, err := os.ReadFile(config.Path)
	if err != nil {
		return nil, nil, err
	}
	return &File{
		path: config.Path, apply: config.Apply, judged: sha256.Sum256(content), log: config.Log.With("file", config.Path),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "apiserver", Subsystem: config.Name, Name: "automatic_reloads_total", Help: "Reloads of a changed configuration file by status.",
		}, []string{"status"}),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "apiserver", Subsystem: config.Name, Name: "automatic_reload_last_timestamp_seconds",
			Help: "Time of the last reload of a changed configuration file by status.",
		}, []string{"status"}),
	}, content, nil
}

// Collectors are the file's metrics.
func (f *File) Collectors() []prometheus.Collector { return []prometheus.Collector{f.total, f.last} }

// Run watches the file until ctx ends. Folders are watched, not the file: files are replaced by renaming, or through symbolic links.
func (f *File) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.path, err)
	}
	defer watcher.Close() //nolint:errcheck // only read
	if err := watcher.Add(filepath.Dir(f.path)); err != nil {
		return fmt.Errorf("watch %s: %w", f.path, err)
	}
	f.follow(watcher)
	retry := f.check(ctx)
	var quiet <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-watcher.Events:
			if !ok {
				return fmt.Errorf("watch of %s ended", f.path)
			}
			quiet = time.After(settle)
		case err := <-watcher.Errors:
			f.log.Warn("watch of a configuration file lost events", "err", err)
			quiet = time.After(settle)
		case <-quiet:
			quiet = nil
			f.follow(watcher)
			retry = f.check(ctx)
		case <-retry:
			retry = f.check(ctx)
		}
	}
}

// follow watches the folder that the file really lies in, where it is a symbolic link into another one.
func (f *File) follow(watcher *fsnotify.Watcher) {
	if path, err := filepath.EvalSymlinks(f.path); err == nil {
		if err := watcher.Add(filepath.Dir(path)); err != nil {
			f.log.Warn("folder of a configuration file is not watched", "err", err)
		}
	}
}

// check applies the file if its content is new. It returns when to try again, nil for not at all.
func (f *File) check(ctx context.Context) <-chan time.Time {
	content, err := os.ReadFile(f.path)
	if err != nil {
		// A file that is gone may be on its way: renaming it into place is the next event.
		f.record("failure")
		f.log.Error("configuration file is not readable; what was read before stays in force", "err", err)
		return nil
	}
	sum := sha256.Sum256(content)
	if sum == f.judged {
		return nil
	}
	if err := f.apply(ctx, content); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		f.record("failure")
		f.log.Error("changed configuration file is refused; what was read before stays in force", "err", err)
		if errors.Is(err, ErrPasses) {
			return time.After(again)
		}
		f.judged = sum
		return nil
	}
	f.judged = sum
	f.record("success")
	f.log.Info("changed configuration file is in force")
	return nil
}

func (f *File) record(status string) {
	f.total.WithLabelValues(status).Inc()
	f.last.WithLabelValues(status).SetToCurrentTime()
}
