// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	etcdbackend "go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
)

// member is the backend of an etcd in this process. It calls the server itself: no goroutine of etcd's client stands between a change and a
// watch, and a request is not taken through its forms.
//
// Each watch has a stream of its own:
//
//	apply ──notify──▶ WatchStream (128 responses) ──▶ Watch, on the goroutine of who watches
//
// Where a stream is full, etcd sets the watch back: it reads what follows from the database once there is room again. That may be compacted by
// then. No other watch waits for it.
type member struct {
	server *etcdserver.EtcdServer
	// kv is the server behind etcd's own checks of requests, the size of the database among them.
	kv pb.KVServer
	// reading is held shared by who looks into the database. etcd itself would close it meanwhile.
	reading sync.RWMutex

	mu sync.Mutex
	// streams of the watches that run.
	streams map[mvcc.WatchStream]struct{}
}

var _ backend = (*member)(nil)

func newMember(server *etcdserver.EtcdServer) *member {
	m := &member{server: server, kv: v3rpc.NewQuotaKVServer(server), streams: map[mvcc.WatchStream]struct{}{}}
	// The server waits for this function before it closes the database.
	server.GoAttach(func() {
		<-server.StoppingNotify()
		m.reading.Lock() // Who reads now began before the server was stopping.
		defer m.reading.Unlock()
	})
	return m
}

// stopping tells whether the server has begun to stop.
func (m *member) stopping() bool {
	select {
	case <-m.server.StoppingNotify():
		return true
	default:
		return false
	}
}

// Range implements backend.
func (m *member) Range(ctx context.Context, request *pb.RangeRequest) (*pb.RangeResponse, error) {
	if !request.GetSerializable() {
		// The server would do the same, and wait with the lock held.
		if err := m.server.LinearizableReadNotify(ctx); err != nil {
			return nil, err
		}
		request.Serializable = true
	}
	if len(request.GetRangeEnd()) == 0 && request.GetRevision() == 0 {
		return m.get(ctx, request.GetKey())
	}
	m.reading.RLock()
	defer m.reading.RUnlock()
	if m.stopping() {
		return nil, rpctypes.ErrStopped
	}
	return m.kv.Range(ctx, request)
}

// get reads a key as it is now.
func (m *member) get(ctx context.Context, key []byte) (*pb.RangeResponse, error) {
	found, now, err := m.one(ctx, key, 0)
	if err != nil {
		return nil, err
	}
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: now}}
	if found != nil {
		resp.Kvs, resp.Count = []*mvccpb.KeyValue{found}, 1
	}
	return resp, nil
}

// Txn implements backend.
func (m *member) Txn(ctx context.Context, request *pb.TxnRequest) (*pb.TxnResponse, error) {
	return m.kv.Txn(ctx, request)
}

// forget has etcd let go of what it buffered between two commits of its database. It keeps each buffer for the next values, with the last ones in it, until two commits
// follow each other without any; and the copy that a reader got until one reads after the next write.
func (m *member) forget() {
	m.inDatabase(func(database etcdbackend.Backend) {
		database.ForceCommit()
		database.ForceCommit()
		database.ConcurrentReadTx().RUnlock()
	})
}

// commit has the database file take in what was written.
func (m *member) commit() { m.inDatabase(etcdbackend.Backend.ForceCommit) }

// inDatabase calls do with the database, unless the server has begun to stop.
func (m *member) inDatabase(do func(etcdbackend.Backend)) {
	m.reading.RLock()
	defer m.reading.RUnlock()
	if !m.stopping() {
		do(m.server.Backend())
	}
}

// Compact implements backend.
func (m *member) Compact(ctx context.Context, request *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	return m.kv.Compact(ctx, request)
}

// Watch implements backend.
func (m *member) Watch(ctx context.Context, prefix string, after int64) iter.Seq2[news, error] {
	return func(yield func(news, error) bool) {
		stream := m.open()
		defer m.close(stream)
		key, end := prefixRange(prefix)
		// The stream takes of a context its trace only, and would end it.
		if _, err := stream.Watch(context.Background(), clientv3.AutoWatchID, key, end, after+1); err != nil {
			yield(news{}, err)
			return
		}
		for {
			select {
			case resp := <-stream.Chan():
				mvcc.ReportEventReceived(len(resp.Events))
				if resp.CompactRevision != 0 {
					yield(news{}, rpctypes.ErrCompacted)
					return
				}
				if err := m.addLast(ctx, resp.Events); err != nil {
					yield(news{}, err)
					return
				}
				if !yield(news{events: resp.Events, revision: resp.Revision}, nil) {
					return
				}
			case <-m.server.StoppingNotify():
				yield(news{}, rpctypes.ErrStopped)
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// prefixRange returns the keys with a prefix in the form of mvcc, where an empty end is behind all keys.
func prefixRange(prefix string) (key, end []byte) {
	key, end = []byte(prefix), []byte(clientv3.GetPrefixRangeEnd(prefix))
	if len(key) == 0 {
		key = []byte{0}
	}
	if len(end) == 1 && end[0] == 0 {
		end = end[:0]
	}
	return key, end
}

func (m *member) open() mvcc.WatchStream {
	stream := m.server.Watchable().NewWatchStream()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.streams[stream] = struct{}{}
	return stream
}

// close ends a stream. It works on a server that has stopped, too.
func (m *member) close(stream mvcc.WatchStream) {
	m.mu.Lock()
	delete(m.streams, stream)
	m.mu.Unlock()
	stream.Close()
	for resp := range stream.Chan() {
		mvcc.ReportEventReceived(len(resp.Events)) // etcd counts what nobody has taken yet.
	}
}

// addLast gives deletions what they deleted, unless it was compacted away. The events are the stream's own, the pairs in them are not.
func (m *member) addLast(ctx context.Context, events []*mvccpb.Event) error {
	for _, ev := range events {
		if ev.GetType() != mvccpb.Event_DELETE {
			continue
		}
		var err error
		ev.PrevKv, _, err = m.one(ctx, ev.GetKv().GetKey(), ev.GetKv().GetModRevision()-1)
		if err != nil && !errors.Is(err, mvcc.ErrCompacted) {
			return err
		}
	}
	return nil
}

// one reads a key at a revision, or now where that is zero, and what revision is now. It returns nil for a key that is not there.
func (m *member) one(ctx context.Context, key []byte, revision int64) (found *mvccpb.KeyValue, now int64, err error) {
	m.reading.RLock()
	defer m.reading.RUnlock()
	if m.stopping() {
		return nil, 0, rpctypes.ErrStopped
	}
	// Other reads copy the list of all that waits to be written to the disk first, so as not to hold up writers. That pays for long ones.
	view := m.server.KV().Read(mvcc.SharedBufReadTxMode, traceutil.TODO())
	defer view.End()
	result, err := view.Range(ctx, key, nil, mvcc.RangeOptions{Rev: revision})
	if err != nil || len(result.KVs) == 0 {
		return nil, view.Rev(), err
	}
	return result.KVs[0], view.Rev(), nil
}

// Progress implements backend.
func (m *member) Progress(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	streams := slices.Collect(maps.Keys(m.streams))
	m.mu.Unlock()
	for _, stream := range streams {
		stream.RequestProgressAll() // A stream that was closed meanwhile does nothing.
	}
	return nil
}
