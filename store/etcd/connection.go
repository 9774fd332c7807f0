// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"iter"
	"math"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// callOptions let requests wait for a connection, and lists be of any size.
var callOptions = []grpc.CallOption{grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(math.MaxInt32)}

// connection is the backend of an etcd elsewhere.
type connection struct {
	client *clientv3.Client
	kv     pb.KVClient
}

var _ backend = (*connection)(nil)

func newConnection(client *clientv3.Client) *connection {
	return &connection{client: client, kv: clientv3.RetryKVClient(client)}
}

// Range implements backend.
func (c *connection) Range(ctx context.Context, request *pb.RangeRequest) (*pb.RangeResponse, error) {
	return c.kv.Range(ctx, request, callOptions...)
}

// Txn implements backend.
func (c *connection) Txn(ctx context.Context, request *pb.TxnRequest) (*pb.TxnResponse, error) {
	return c.kv.Txn(ctx, request, callOptions...)
}

// Compact implements backend.
func (c *connection) Compact(ctx context.Context, request *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	return c.kv.Compact(ctx, request, callOptions...)
}

// Watch implements backend.
func (c *connection) Watch(ctx context.Context, prefix string, after int64) iter.Seq2[news, error] {
	return func(yield func(news, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		responses := c.client.Watch(onStream(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(after+1), clientv3.WithPrevKV())
		for resp := range responses {
			if err := resp.Err(); err != nil {
				yield(news{}, err)
				return
			}
			if len(resp.Events) == 0 && !resp.IsProgressNotify() {
				continue
			}
			if !yield(news{events: resp.Events, revision: resp.Header.GetRevision()}, nil) {
				return
			}
		}
		yield(news{}, errors.New("the stream has ended"))
	}
}

// Progress implements backend.
func (c *connection) Progress(ctx context.Context) error {
	err := c.client.RequestProgress(onStream(ctx))
	if err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "no stream found") { // No watch runs.
		return nil
	}
	return err
}

// onStream is the context of watches and of progress requests, which must be alike: the client keeps one stream per kind of context. A watch
// on a member without a leader ends, and the client goes to another one.
func onStream(ctx context.Context) context.Context { return clientv3.WithRequireLeader(ctx) }
