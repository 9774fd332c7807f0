// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"errors"
	"io"
	"os"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"golang.org/x/sys/unix"
)

// A lock goes with the open file, of which a child has a copy from fork to exec. So a file that was closed may look locked
// for a moment, when this process starts others meanwhile.
const (
	lockRetry = 5 * time.Millisecond
	lockTries = 20
)

// lockFile opens a file of etcd's with etcd's own lock. It returns ErrInUse where another process holds that.
func lockFile(path string) (*os.File, error) {
	for try := 1; ; try++ {
		f, err := fileutil.TryLockFile(path, os.O_RDWR, fileutil.PrivateFileMode)
		if err == nil {
			return f.File, nil
		}
		if !errors.Is(err, fileutil.ErrLocked) {
			return nil, err
		}
		if try == lockTries {
			return nil, ErrInUse
		}
		<-time.After(lockRetry)
	}
}

// unlockFile gives the lock back, also where a child has a copy, and closes the file.
func unlockFile(f *os.File) error {
	unlock := unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unlock)
	return errors.Join(err, f.Close())
}
