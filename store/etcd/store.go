// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package etcd is the store that clusters live in: real etcd, in this process (Open) or elsewhere (Dial). Keys and values are
// as kube-apiserver writes them.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kogge.dev/kogge/store"
)

// requestOverhead bounds what a request needs besides its value and its key, in bytes. The key is in it three times.
const requestOverhead = 256

// revisionKey is read to learn the revision. Nobody writes it.
const revisionKey = "/registry/.revision"

// Store is a store.Store on an etcd client.
type Store struct {
	client *clientv3.Client
	leases leases
	// alone is set where the member is its cluster's only one, for good: what it has applied is what was acknowledged, so that reads of it are
	// linearizable without a round of Raft, which would wake five goroutines.
	alone bool
	// told is the newest revision of which a watch has told. etcd tells of a change a moment before it has applied it.
	told atomic.Int64
	// watchContext prepares the context of watches and of progress requests, which must be alike: the client keeps one
	// stream per kind of context.
	watchContext func(context.Context) context.Context
	// trim is told of what is written; nil where somebody else keeps the log.
	trim *trimmer
}

var _ store.Store = (*Store)(nil)

func newStore(client *clientv3.Client, watchContext func(context.Context) context.Context) *Store {
	return &Store{client: client, leases: leases{client: client, current: map[int64]lease{}}, watchContext: watchContext}
}

// Client is the etcd client under the store, for what the contract does not cover (snapshots, members, defragmentation).
func (s *Store) Client() *clientv3.Client { return s.client }

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Record, int64, error) {
	resp, err := s.read(ctx, key)
	if err != nil {
		return store.Record{}, 0, fmt.Errorf("get %s: %w", key, translate(err))
	}
	if len(resp.Kvs) == 0 {
		return store.Record{}, resp.Header.GetRevision(), store.ErrNotFound
	}
	return record(resp.Kvs[0]), resp.Header.GetRevision(), nil
}

// read is every read. Where the member is alone it asks for what is applied, and once more, for all that was acknowledged, when that is older
// than what somebody was told.
func (s *Store) read(ctx context.Context, key string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if s.alone {
		told := s.told.Load()
		resp, err := s.client.Get(ctx, key, append(slices.Clip(options), clientv3.WithSerializable())...)
		late := err == nil && resp.Header.GetRevision() < told || errors.Is(err, rpctypes.ErrFutureRev)
		if !late {
			return resp, err
		}
	}
	return s.client.Get(ctx, key, options...)
}

func record(kv *mvccpb.KeyValue) store.Record {
	return store.Record{
		Key: string(kv.GetKey()), Value: kv.GetValue(), CreateRevision: kv.GetCreateRevision(), ModRevision: kv.GetModRevision(),
	}
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, opts store.ListOptions) (store.Page, error) {
	resp, err := s.read(ctx, max(opts.Prefix, opts.From),
		clientv3.WithRange(clientv3.GetPrefixRangeEnd(opts.Prefix)), clientv3.WithLimit(opts.Limit), clientv3.WithRev(opts.Revision))
	if err != nil {
		return store.Page{}, fmt.Errorf("list %s: %w", opts.Prefix, translate(err))
	}
	page := store.Page{
		Records:   make([]store.Record, len(resp.Kvs)),
		Revision:  resp.Header.GetRevision(),
		Remaining: resp.Count - int64(len(resp.Kvs)),
	}
	if opts.Revision != 0 {
		page.Revision = opts.Revision
	}
	for i, kv := range resp.Kvs {
		page.Records[i] = record(kv)
	}
	return page, nil
}

// Create implements store.Store.
func (s *Store) Create(ctx context.Context, key string, value []byte, opts store.WriteOptions) (int64, error) {
	resp, err := s.put(ctx, key, value, 0, opts)
	if err != nil {
		return 0, fmt.Errorf("create %s: %w", key, err)
	}
	if !resp.Succeeded {
		return 0, store.ErrExists
	}
	return resp.Header.GetRevision(), nil
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, key string, value []byte, expected int64, opts store.WriteOptions) (int64, error) {
	resp, err := s.put(ctx, key, value, expected, opts, clientv3.OpGet(key))
	if err != nil {
		return 0, fmt.Errorf("update %s: %w", key, err)
	}
	if !resp.Succeeded {
		return 0, conflict(resp)
	}
	return resp.Header.GetRevision(), nil
}

// put writes a key if its revision is expected, and does otherwise if not. A lease that has vanished is replaced once.
func (s *Store) put(
	ctx context.Context, key string, value []byte, expected int64, opts store.WriteOptions, otherwise ...clientv3.Op,
) (*clientv3.TxnResponse, error) {
	if len(value)+3*len(key)+requestOverhead > store.MaxRequestBytes {
		return nil, store.ErrTooLarge
	}
	for second := false; ; second = true {
		var options []clientv3.OpOption
		var id clientv3.LeaseID
		if opts.TTL > 0 {
			var err error
			if id, err = s.leases.get(ctx, opts.TTL); err != nil {
				return nil, translate(err)
			}
			options = append(options, clientv3.WithLease(id))
		}
		resp, err := s.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", expected)).
			Then(clientv3.OpPut(key, unsafe.String(unsafe.SliceData(value), len(value)), options...)). // It copies.
			Else(otherwise...).
			Commit()
		if id != 0 && !second && errors.Is(err, rpctypes.ErrLeaseNotFound) {
			s.leases.forget(id)
			continue
		}
		s.trim.wrote(len(value))
		return resp, translate(err)
	}
}

// conflict makes the error of a refused update or delete from what the transaction read instead.
func conflict(resp *clientv3.TxnResponse) error {
	kvs := resp.Responses[0].GetResponseRange().GetKvs()
	if len(kvs) == 0 {
		return store.ErrNotFound
	}
	return &store.ConflictError{Current: record(kvs[0])}
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string, expected int64) (int64, error) {
	if expected == 0 { // etcd would find that an absent key is as expected.
		expected = -1
	}
	resp, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", expected)).
		Then(clientv3.OpDelete(key)).
		Else(clientv3.OpGet(key)).
		Commit()
	if err != nil {
		return 0, fmt.Errorf("delete %s: %w", key, translate(err))
	}
	if !resp.Succeeded {
		return 0, conflict(resp)
	}
	return resp.Header.GetRevision(), nil
}

// Revision implements store.Store.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	resp, err := s.read(ctx, revisionKey, clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("read revision: %w", translate(err))
	}
	return resp.Header.GetRevision(), nil
}

// Compact implements store.Store.
func (s *Store) Compact(ctx context.Context, revision int64) error {
	if _, err := s.client.Compact(ctx, revision); err != nil {
		return fmt.Errorf("compact to revision %d: %w", revision, translate(err))
	}
	return nil
}

// translate maps etcd's errors to the contract's.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrCompacted):
		return store.ErrCompacted
	case errors.Is(err, rpctypes.ErrFutureRev):
		return store.ErrFuture
	case errors.Is(err, rpctypes.ErrRequestTooLarge):
		return store.ErrTooLarge
	case status.Code(err) == codes.ResourceExhausted && !errors.Is(err, rpctypes.ErrNoSpace) && !errors.Is(err, rpctypes.ErrTooManyRequests):
		return fmt.Errorf("%w: %w", store.ErrTooLarge, err) // gRPC's own limit, in front of etcd's.
	default:
		return err
	}
}

// seconds rounds up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
