// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"expvar"
	"fmt"
	"sync"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// opening is held while an etcd starts: the status of raft is to be had for the youngest etcd of a process only.
var opening sync.Mutex

// elect makes a member that is alone the leader without waiting for an election timeout: it is told that its time has come, as
// a leader tells its successor. It is called until there is a leader.
//
// Raft must not be told while entries of the log that it found are on their way to being applied: it would look through them
// for changes of the membership, while etcd, which has applied them already, takes them out of memory; that panics. Alone and
// not elected nothing new can be on its way: so once raft has applied all, it has for good.
func elect(ctx context.Context, server *embed.Etcd) error {
	if server.Server.Leader() != 0 || !appliedAll() {
		return nil
	}
	id := uint64(server.Server.MemberID())
	err := server.Server.Process(ctx, &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), From: &id, To: &id})
	if err != nil {
		return fmt.Errorf("elect the only member: %w", err)
	}
	return nil
}

// appliedAll tells whether raft itself, not only etcd, knows that all committed entries have been applied. etcd publishes
// raft's status nowhere but in expvar.
func appliedAll() bool {
	published, ok := expvar.Get("raft.status").(expvar.Func)
	if !ok {
		return false
	}
	status, ok := published.Value().(raft.Status)
	return ok && status.HardState != nil && status.Applied == status.GetCommit()
}
