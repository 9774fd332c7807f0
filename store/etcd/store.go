// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package etcd is the store that clusters live in: real etcd, in this process (Open) or elsewhere (Dial). Keys and values are
// as kube-apiserver writes them.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
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

// Store is a store.Store on an etcd.
type Store struct {
	backend backend
	// client reaches the same etcd, for what is rare.
	client *clientv3.Client
	leases leases
	// alone is set where the member is its cluster's only one, for good: what it has applied is what was acknowledged, so that reads of it are
	// linearizable without a round of Raft, which would wake five goroutines.
	alone bool
	// told is the newest revision of which a watch has told. etcd tells of a change a moment before it has applied it.
	told atomic.Int64
	// wrote is told of each write how many bytes it has; nil where somebody else keeps the log.
	wrote func(bytes int)
}

var _ store.Store = (*Store)(nil)

func newStore(backend backend, client *clientv3.Client) *Store {
	return &Store{backend: backend, client: client, leases: leases{client: client, current: map[int64]lease{}}}
}

// Client is the etcd client under the store, for what the contract does not cover (snapshots, members, defragmentation).
func (s *Store) Client() *clientv3.Client { return s.client }

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Record, int64, error) {
	resp, err := s.read(ctx, &pb.RangeRequest{Key: []byte(key)})
	if err != nil {
		return store.Record{}, 0, fmt.Errorf("get %s: %w", key, err)
	}
	if len(resp.Kvs) == 0 {
		return store.Record{}, resp.Header.GetRevision(), store.ErrNotFound
	}
	return record(resp.Kvs[0]), resp.Header.GetRevision(), nil
}

// read is every read. Where the member is alone it asks for what is applied, and once more, for all that was acknowledged, when that is older
// than what somebody was told.
func (s *Store) read(ctx context.Context, request *pb.RangeRequest) (*pb.RangeResponse, error) {
	told := s.told.Load()
	request.Serializable = s.alone
	resp, err := s.backend.Range(ctx, request)
	err = translate(ctx, err)
	if s.alone && (err == nil && resp.Header.GetRevision() < told || errors.Is(err, store.ErrFuture)) {
		request.Serializable = false
		resp, err = s.backend.Range(ctx, request)
		err = translate(ctx, err)
	}
	return resp, err
}

func record(kv *mvccpb.KeyValue) store.Record {
	return store.Record{
		Key: string(kv.GetKey()), Value: kv.GetValue(), CreateRevision: kv.GetCreateRevision(), ModRevision: kv.GetModRevision(),
	}
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, opts store.ListOptions) (store.Page, error) {
	resp, err := s.read(ctx, &pb.RangeRequest{
		Key: []byte(max(opts.Prefix, opts.From)), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(opts.Prefix)),
		Limit: opts.Limit, Revision: opts.Revision,
	})
	if err != nil {
		return store.Page{}, fmt.Errorf("list %s: %w", opts.Prefix, err)
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
	resp, err := s.put(ctx, key, value, expected, opts, opGet(key))
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
	ctx context.Context, key string, value []byte, expected int64, opts store.WriteOptions, otherwise ...*pb.RequestOp,
) (*pb.TxnResponse, error) {
	if len(value)+3*len(key)+requestOverhead > store.MaxRequestBytes {
		return nil, store.ErrTooLarge
	}
	for second := false; ; second = true {
		put := &pb.PutRequest{Key: []byte(key), Value: value}
		if opts.TTL > 0 {
			id, err := s.leases.get(ctx, opts.TTL)
			if err != nil {
				return nil, translate(ctx, err)
			}
			put.Lease = int64(id)
		}
		resp, err := s.txn(ctx, key, expected, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}}, otherwise...)
		if put.Lease != 0 && !second && errors.Is(err, rpctypes.ErrLeaseNotFound) {
			s.leases.forget(clientv3.LeaseID(put.Lease))
			continue
		}
		if s.wrote != nil {
			s.wrote(len(value))
		}
		return resp, err
	}
}

// txn does one thing if a key's revision is expected, and others if not.
func (s *Store) txn(ctx context.Context, key string, expected int64, then *pb.RequestOp, otherwise ...*pb.RequestOp) (*pb.TxnResponse, error) {
	resp, err := s.backend.Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{{
			Key: []byte(key), Target: pb.Compare_MOD, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_ModRevision{ModRevision: expected},
		}},
		Success: []*pb.RequestOp{then}, Failure: otherwise,
	})
	return resp, translate(ctx, err)
}

// opGet reads a key in a transaction.
func opGet(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
}

// conflict makes the error of a refused update or delete from what the transaction read instead.
func conflict(resp *pb.TxnResponse) error {
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
	remove := &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key)}}
	resp, err := s.txn(ctx, key, expected, &pb.RequestOp{Request: remove}, opGet(key))
	if err != nil {
		return 0, fmt.Errorf("delete %s: %w", key, err)
	}
	if !resp.Succeeded {
		return 0, conflict(resp)
	}
	return resp.Header.GetRevision(), nil
}

// Revision implements store.Store.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	resp, err := s.read(ctx, &pb.RangeRequest{Key: []byte(revisionKey), CountOnly: true})
	if err != nil {
		return 0, fmt.Errorf("read revision: %w", err)
	}
	return resp.Header.GetRevision(), nil
}

// Compact implements store.Store.
func (s *Store) Compact(ctx context.Context, revision int64) error {
	if _, err := s.backend.Compact(ctx, &pb.CompactionRequest{Revision: revision}); err != nil {
		return fmt.Errorf("compact to revision %d: %w", revision, translate(ctx, err))
	}
	return nil
}

// translate maps etcd's errors to the contract's, and to those of rpctypes.
func translate(ctx context.Context, err error) error {
	err = clientv3.ContextError(ctx, err)
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
