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
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"
)

// Times of a File.
const (
	// settle is how long the file must be quiet before it is read: editors write in several steps.
	settle = 100 * time.Millisecond
	// settleMost is how long a file that is never quiet is waited for.
	settleMost = 5 * time.Second
	// again is the default of Config.Again.
	again = time.Minute
)

// ErrPasses marks what Apply could not do now, but perhaps later with the same content: a server that is not reached yet.
var ErrPasses = errors.New("may pass")

// File is one file that is applied again when it changes. What was applied before stays in force when the new content is refused; log
// and metrics say so.
type File struct {
	config Config
	// path is absolute; names are those whose changes may change what is read at it.
	path  string
	names []string
	log   *slog.Logger
	// judged is the sum of the content that was applied or refused for good: the content itself may hold keys. tried is that of the content
	// that could not be applied for a reason that may pass.
	judged, tried [sha256.Size]byte

	total *prometheus.CounterVec
	last  *prometheus.GaugeVec
}

// Config of a File. All fields but Again are required.
type Config struct {
	Path string
	// Name of the subsystem in metrics, apiserver_NAME_automatic_reloads_total, and in the log.
	Name string
	// Apply puts new content in force, whole, or returns an error and leaves all as it was.
	Apply func(ctx context.Context, content []byte) error
	Log   *slog.Logger
	// Again is the pause before content is tried again whose error is ErrPasses. Zero is a minute.
	Again time.Duration
}

// Open reads a file. The caller puts its content in force; Run watches for the next.
func Open(config Config) (*File, []byte, error) {
	path, err := filepath.Abs(config.Path)
	if err != nil {
		return nil, nil, err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	if config.Again == 0 {
		config.Again = again
	}
	return &File{
		config: config, path: path, judged: sha256.Sum256(content), log: config.Log.With("file", config.Path),
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
	return f.loop(ctx, watcher.Events, watcher.Errors, watcher.Add)
}

// loop is Run with a watcher's channels; add has it watch a folder, which it may watch already.
func (f *File) loop(ctx context.Context, events <-chan fsnotify.Event, failures <-chan error, add func(folder string) error) error {
	f.follow(add)
	retry := f.check(ctx, nil)
	var (
		quiet <-chan time.Time
		limit time.Time // of quiet
	)
	touched := func() {
		if quiet == nil {
			limit = time.Now().Add(settleMost)
		}
		quiet = time.After(min(settle, time.Until(limit)))
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-events:
			if !ok {
				return fmt.Errorf("watch of %s ended", f.path)
			}
			if f.concerns(event.Name) {
				touched()
			}
		case err := <-failures:
			f.log.Warn("watch of a configuration file lost events", "err", err)
			touched()
		case <-quiet:
			quiet = nil
			f.follow(add)
			retry = f.check(ctx, retry)
		case <-retry:
			retry = f.check(ctx, nil)
		}
	}
}

// follow watches the folders of all names on the way to the file.
func (f *File) follow(add func(folder string) error) {
	f.names = trail(f.path)
	for {
		for _, name := range f.names {
			if err := add(filepath.Dir(name)); err != nil {
				f.log.Warn("folder of a configuration file is not watched", "err", err)
			}
		}
		// What changed before its folder was watched was not told.
		now := trail(f.path)
		if slices.Equal(now, f.names) {
			return
		}
		f.names = now
	}
}

// concerns tells whether a change of a name may change what is read. That of a folder may, if the file or a link to it lies there. Last
// parts are compared: a folder that is watched by two names tells one of them.
func (f *File) concerns(name string) bool {
	last := filepath.Base(name)
	return slices.ContainsFunc(f.names, func(n string) bool { return filepath.Base(n) == last || filepath.Base(filepath.Dir(n)) == last })
}

// maxLinks is how many links Linux follows on the way to a file.
const maxLinks = 40

// trail lists the symbolic links on the way to an absolute path, and where it leads: the file, or the first name that does not exist.
func trail(path string) []string {
	var names []string
	folder, rest := "/", strings.Split(path, "/")
	for len(rest) > 0 && len(names) <= maxLinks {
		name := filepath.Join(folder, rest[0])
		rest = rest[1:]
		info, err := os.Lstat(name)
		switch {
		case err != nil:
			return append(names, name)
		case info.Mode()&os.ModeSymlink != 0:
			names = append(names, name)
			target, err := os.Readlink(name)
			if err != nil {
				return names
			}
			if filepath.IsAbs(target) {
				folder = "/"
			}
			rest = slices.Concat(strings.Split(target, "/"), rest)
		case len(rest) == 0:
			return append(names, name)
		default:
			folder = name
		}
	}
	return names
}

// check applies the file if its content is new. It returns when to try again, nil for not at all. What was tried before is not until pending
// says so, if it is not nil.
func (f *File) check(ctx context.Context, pending <-chan time.Time) <-chan time.Time {
	content, err := os.ReadFile(f.path)
	if err != nil {
		// A file that is gone may be on its way: renaming it into place is the next event.
		f.record("failure")
		f.log.Error("configuration file is not readable; what was read before stays in force", "err", err)
		return nil
	}
	sum := sha256.Sum256(content)
	switch {
	case sum == f.judged:
		return nil
	case pending != nil && sum == f.tried:
		return pending
	}
	if err := f.config.Apply(ctx, content); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		f.record("failure")
		f.log.Error("changed configuration file is refused; what was read before stays in force", "err", err)
		if errors.Is(err, ErrPasses) {
			f.tried = sum
			return time.After(f.config.Again)
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
