// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package store is the contract of the cluster's memory: a revisioned key-value store as etcd's v3 API defines it, cut down to what an API
// server needs. Two implementations, store/etcd and store/memory, pass the suite in store/storetest.
//
// Every change gets the next revision of one global, strictly increasing counter. A revision can be read back until it
// is compacted. Watches deliver every change of their prefix exactly once, in revision order.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors that every implementation returns; compare with errors.Is.
var (
	// ErrExists is returned by Create when the key is taken.
	ErrExists = errors.New("key exists")
	// ErrNotFound is returned by Get and Delete for a key that is not there, and by Update with a revision other than 0.
	ErrNotFound = errors.New("key not found")
	// ErrCompacted is returned for reads and watches at a revision that has been compacted away.
	ErrCompacted = errors.New("required revision has been compacted")
	// ErrFuture is returned for reads at a revision that does not exist yet.
	ErrFuture = errors.New("required revision is a future revision")
	// ErrTooLarge is returned for a request above MaxRequestBytes.
	ErrTooLarge = errors.New("request is too large")
)

// MaxRequestBytes bounds one write, as etcd's default does.
const MaxRequestBytes = 1_572_864

// ConflictError is returned by Update and Delete when the key's revision is not the expected one. Current is what is
// stored, so that the caller can try again without another read.
type ConflictError struct{ Current Record }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("key %s is at revision %d", e.Current.Key, e.Current.ModRevision)
}

// Record is one key with its value at one revision. Value is immutable.
type Record struct {
	Key            string
	Value          []byte
	CreateRevision int64
	ModRevision    int64
}

// ListOptions select a range of keys.
type ListOptions struct {
	// Prefix that keys must begin with.
	Prefix string
	// From, when set, is the first key to return (inclusive); it must begin with Prefix.
	From string
	// Limit bounds the number of records; 0 means no bound.
	Limit int64
	// Revision to read at; 0 means now (linearizable).
	Revision int64
}

// Page is an answer to List, in key order.
type Page struct {
	Records []Record
	// Revision that the page was read at: ListOptions.Revision, or the store's at the time.
	Revision int64
	// Remaining counts the records of the range after the page.
	Remaining int64
}

// Event is one change. Deleted events carry the last value in Record.Value with ModRevision set to the deletion's. A watch that comes to a
// deletion when what was before it has been compacted finds neither the value nor CreateRevision.
type Event struct {
	Record
	// Created is set for a key that was not there before.
	Created bool
	Deleted bool
}

// Batch is what a watch delivers: all events are of one prefix, in revision order; a revision is never split over two
// batches. An empty Events with a Revision is a progress mark: everything up to that revision has been delivered.
type Batch struct {
	Events   []Event
	Revision int64
}

// WriteOptions modify a write.
type WriteOptions struct {
	// TTL after which the key vanishes by itself, rounded up to seconds; 0 means never.
	TTL time.Duration
}

// Store is the contract. All methods are safe for concurrent use.
type Store interface {
	// Get reads one key, linearizably. It returns ErrNotFound (with the store's revision) when it is absent.
	Get(ctx context.Context, key string) (Record, int64, error)
	List(ctx context.Context, opts ListOptions) (Page, error)
	// Create stores a new key and returns its revision, or ErrExists.
	Create(ctx context.Context, key string, value []byte, opts WriteOptions) (int64, error)
	// Update replaces the value if the key's ModRevision is expected, else *ConflictError (or ErrNotFound).
	Update(ctx context.Context, key string, value []byte, expected int64, opts WriteOptions) (int64, error)
	// Delete removes the key if its ModRevision is expected and returns the deletion's revision, else *ConflictError or
	// ErrNotFound.
	Delete(ctx context.Context, key string, expected int64) (int64, error)
	// Watch delivers every change under prefix with a revision greater than after, to fn, from one goroutine, until ctx ends
	// or fn returns an error. A blocking fn blocks this watch only. It returns ErrCompacted where history is gone.
	Watch(ctx context.Context, prefix string, after int64, fn func(Batch) error) error
	// Progress asks that all running watches deliver a progress mark soon.
	Progress(ctx context.Context) error
	// Revision returns the store's current revision, linearizably.
	Revision(ctx context.Context) (int64, error)
	// Compact discards history before revision.
	Compact(ctx context.Context, revision int64) error
}

// Rewritable is a Store that may keep the same value in several ways, such as encrypted under several keys.
type Rewritable interface {
	// Stale reports whether the value of a key would be written in another way now than it is stored.
	Stale(ctx context.Context, key string) (bool, error)
}
