// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package encryption

import (
	"context"
	"errors"
	"fmt"

	"kogge.dev/kogge/store"
)

var (
	_ store.Store      = (*Store)(nil)
	_ store.Rewritable = (*Store)(nil)
)

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Record, int64, error) {
	r, revision, err := s.Store.Get(ctx, key)
	if err != nil {
		return r, revision, err
	}
	r.Value, _, err = s.open(ctx, key, r.Value)
	return r, revision, err
}

// Stale implements store.Rewritable.
func (s *Store) Stale(ctx context.Context, key string) (bool, error) {
	if s.current.Load().table.find(s.config.Resource(key)) == nil {
		return false, nil
	}
	r, _, err := s.Store.Get(ctx, key)
	if err != nil {
		return false, err
	}
	_, stale, err := s.open(ctx, key, r.Value)
	return stale, err
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, opts store.ListOptions) (store.Page, error) {
	page, err := s.Store.List(ctx, opts)
	for i := range page.Records {
		s.show(ctx, &page.Records[i])
	}
	return page, err
}

// Create implements store.Store.
func (s *Store) Create(ctx context.Context, key string, value []byte, opts store.WriteOptions) (int64, error) {
	stored, err := s.seal(ctx, key, value)
	if err != nil {
		return 0, err
	}
	return s.Store.Create(ctx, key, stored, opts)
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, key string, value []byte, expected int64, opts store.WriteOptions) (int64, error) {
	stored, err := s.seal(ctx, key, value)
	if err != nil {
		return 0, err
	}
	revision, err := s.Store.Update(ctx, key, stored, expected, opts)
	return revision, s.conflict(ctx, err)
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string, expected int64) (int64, error) {
	revision, err := s.Store.Delete(ctx, key, expected)
	return revision, s.conflict(ctx, err)
}

// conflict decrypts what an error carries.
func (s *Store) conflict(ctx context.Context, err error) error {
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) {
		return err
	}
	shown := *conflict
	s.show(ctx, &shown.Current)
	return &shown
}

var errAgain = errors.New("values can be decrypted that could not be before")

// Watch implements store.Store. It ends with ErrCompacted, too, when what was delivered encrypted may be decrypted now.
func (s *Store) Watch(ctx context.Context, prefix string, after int64, fn func(store.Batch) error) error {
	s.mu.Lock()
	if s.due {
		s.due = false
		s.mu.Unlock()
		return fmt.Errorf("%w: %w", store.ErrCompacted, errAgain)
	}
	s.watches++
	again := s.again
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.watches--
		s.mu.Unlock()
	}()
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-again:
			cancel(errAgain)
		case <-done:
		}
	}()
	err := s.Store.Watch(inner, prefix, after, func(b store.Batch) error {
		for i := range b.Events {
			s.show(inner, &b.Events[i].Record)
		}
		return fn(b)
	})
	if ctx.Err() == nil && errors.Is(context.Cause(inner), errAgain) {
		return fmt.Errorf("%w: %w", store.ErrCompacted, errAgain)
	}
	return err
}
