// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// firstSegment is the name of the first segment of a WAL. The first snapshot of a member lets go of it.
const firstSegment = "0000000000000000-0000000000000000.wal"

// removeUnborn removes what a crash has left of a member that is alone and never came to be. etcd makes the log first and
// says in it later that there is a cluster of one; in between it would never have a leader again. Nothing can have been
// acknowledged before that: a leader needs it. So it starts anew.
func removeUnborn(dataDir string) error {
	born, err := isBorn(filepath.Join(walDir(dataDir), firstSegment))
	if err != nil || born {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dataDir, "member")); err != nil {
		return fmt.Errorf("remove the unfinished member: %w", err)
	}
	return nil
}

// isBorn tells whether a log says that something was committed. A log without its first segment has done so, and one that is
// not there has nothing to remove. What can't be read is left to etcd to judge.
func isBorn(segment string) (bool, error) {
	f, err := os.Open(segment)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	decoder := wal.NewDecoder(fileutil.NewFileReader(f))
	var rec walpb.Record
	for {
		if err := decoder.Decode(&rec); err != nil {
			return !endOfLog(err), nil
		}
		switch rec.GetType() {
		case wal.CrcType:
			decoder.UpdateCRC(rec.GetCrc())
		case wal.StateType:
			var state raftpb.HardState
			if err := proto.Unmarshal(rec.GetData(), &state); err != nil || state.GetCommit() > 0 {
				return true, nil // Not ours to judge.
			}
		case wal.SnapshotType:
			var snap walpb.Snapshot
			if err := proto.Unmarshal(rec.GetData(), &snap); err != nil || snap.GetIndex() > 0 {
				return true, nil // Not ours to judge.
			}
		}
	}
}
