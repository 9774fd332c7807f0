// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"iter"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// backend is an etcd as a Store reaches it: a member in this process, or a connection to others. Requests and answers are etcd's own; an
// answer's header has a revision. Errors are as gRPC brings them, of rpctypes, or the context's: translate takes all of them.
type backend interface {
	// Range reads keys. It may change the request.
	Range(ctx context.Context, request *pb.RangeRequest) (*pb.RangeResponse, error)
	// Txn writes. It holds nothing of the request once it has returned.
	Txn(ctx context.Context, request *pb.TxnRequest) (*pb.TxnResponse, error)
	Compact(ctx context.Context, request *pb.CompactionRequest) (*pb.CompactionResponse, error)
	// Watch brings what changes under prefix after a revision, in order and without splitting revisions, and progress marks. It ends with an
	// error, or with the context.
	Watch(ctx context.Context, prefix string, after int64) iter.Seq2[news, error]
	// Progress asks for progress marks on all watches. One that lags may bring none.
	Progress(ctx context.Context) error
}

// news is what a watch brings at once.
type news struct {
	// events of one revision or several. Deletions have the pair before, unless it was compacted away; nobody changes what they hold.
	events []*mvccpb.Event
	// revision of the server at the time. Without events this is a progress mark: all up to it was brought.
	revision int64
}
