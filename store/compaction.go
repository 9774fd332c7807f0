// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// DefaultHistory is how long the past can be read where Compaction.History is zero.
const DefaultHistory = 5 * time.Minute

// Compaction keeps a store's history short.
type Compaction struct {
	// Store to compact. Required.
	Store Store
	// History is how long, at least, a revision can be read after the next one was made; at most it is twice as long. Zero
	// means DefaultHistory.
	History time.Duration
	// Logger; nil means none.
	Logger *slog.Logger
}

// Run compacts until ctx ends. Several servers may run it on one store: each compacts only what it has known for so long, and
// finds the rest compacted already.
func (c Compaction) Run(ctx context.Context) error {
	if c.Store == nil {
		return errors.New("compaction without a store")
	}
	if c.History == 0 {
		c.History = DefaultHistory
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	ticker := time.NewTicker(c.History)
	defer ticker.Stop()
	var known, done int64
	for {
		// known was the store's revision one tick ago; a failure leaves it for the next tick.
		err := c.compact(ctx, known, &done)
		if err == nil {
			known, err = c.Store.Revision(ctx)
		}
		if err != nil && ctx.Err() == nil {
			c.Logger.Info("compact the store", "err", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// compact compacts to a revision, unless it is done.
func (c Compaction) compact(ctx context.Context, revision int64, done *int64) error {
	if revision <= *done {
		return nil
	}
	if err := c.Store.Compact(ctx, revision); err != nil && !errors.Is(err, ErrCompacted) {
		return fmt.Errorf("compact to revision %d: %w", revision, err)
	}
	*done = revision
	return nil
}
