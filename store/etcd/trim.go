// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// trimEntries is after how many entries etcd lets go of its log in memory, whatever they hold: so many large ones stay for as long as
	// nobody writes. The number is etcd's, a constant of its server, and one more.
	trimEntries = 101
	// trimLeast is how much must have been written since to make it worth entries that hold nothing.
	trimLeast = 1 << 20
	// trimAgain is how many follow them, one after the other.
	trimAgain = 2
	// trimAfter is how long after the first write of so much. A cluster that goes on writing has trimmed the log itself by then, and so few
	// entries more are nothing to it.
	trimAfter = time.Minute
)

// trimmer keeps etcd's memory from holding large values for as long as a cluster is idle: it has nothing written so many times that etcd
// takes what is before it out of its log in memory, and then forgets what etcd has buffered. It is for a member that is alone.
type trimmer struct {
	// nothing appends an entry to the log that changes nothing.
	nothing func(ctx context.Context) error
	// forget drops the buffers of what is in the database by now.
	forget func()
	ctx    context.Context //nolint:containedctx // of the timer's goroutine, which nobody calls
	cancel context.CancelFunc

	mu      sync.Mutex
	written int
	timer   *time.Timer // nil unless it runs
	// running counts timers that are armed and trims on their way.
	running sync.WaitGroup
}

func newTrimmer(nothing func(ctx context.Context) error, forget func()) *trimmer {
	t := &trimmer{nothing: nothing, forget: forget}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// wrote tells of a write of so many bytes. A nil trimmer does nothing.
func (t *trimmer) wrote(n int) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.written += n; t.written < trimLeast || t.timer != nil || t.ctx.Err() != nil {
		return
	}
	t.running.Add(1)
	t.timer = time.AfterFunc(trimAfter, func() {
		defer t.running.Done()
		t.mu.Lock()
		t.written, t.timer = 0, nil
		t.mu.Unlock()
		_ = t.trim(t.ctx) // The log stays as it is until more is written.
	})
}

// trim fills the log with entries of nothing, all at once: they share their writes to the disk. Two come after them: etcd answers before it takes out what is before
// an entry, and has done so when it answers the next; and it keeps what it read from the log last, and with it the log as it was then, until it reads again.
func (t *trimmer) trim(ctx context.Context) error {
	g, together := errgroup.WithContext(ctx)
	for range trimEntries {
		g.Go(func() error { return t.nothing(together) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	t.forget()
	for range trimAgain {
		if err := t.nothing(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stop ends what is on its way.
func (t *trimmer) stop() {
	if t == nil {
		return
	}
	t.cancel()
	t.mu.Lock()
	if t.timer != nil && t.timer.Stop() {
		t.running.Done()
	}
	t.mu.Unlock()
	t.running.Wait()
}
