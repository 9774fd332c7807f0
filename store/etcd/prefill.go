// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// prefillEvery is after how many bytes of writes the next segment is looked after: several times in a segment.
const prefillEvery = segmentBytes / 4

// spareSegment is a segment that is being filled. etcd ignores the name.
const spareSegment = "spare.tmp"

// nextSegments are the names under which etcd prepares segments, in turn: one is always open, and it creates the other, unless there is one, when
// the first becomes part of the log.
var nextSegments = [...]string{"0.tmp", "1.tmp"}

// prefiller has the next segment of the log filled with zeros before etcd opens it. etcd only allocates its blocks, so that with every sync of new
// records the file system has to write down as well that those blocks hold something now, and waits for the disk twice.
//
// It never writes to a file that etcd knows: a segment gets its name when it is whole, and only if etcd has not made one of that name.
type prefiller struct {
	dir string
	log *slog.Logger

	mu      sync.Mutex
	written int
	busy    bool // while a segment is filled
	stopped bool
	running sync.WaitGroup
}

// wrote tells of a write of so many bytes. A nil prefiller does nothing.
func (p *prefiller) wrote(n int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.written += n; p.written < prefillEvery || p.busy || p.stopped {
		return
	}
	p.written, p.busy = 0, true
	p.running.Go(func() {
		if err := p.fill(); err != nil {
			p.log.Warn("segment of the log is not filled beforehand, writes take longer", "err", err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.busy = false
	})
}

// stop waits for what is on its way.
func (p *prefiller) stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.running.Wait()
}

// fill makes the segment that etcd opens next, if it is not there.
func (p *prefiller) fill() error {
	next, err := p.next()
	if err != nil || next == "" {
		return err
	}
	spare := filepath.Join(p.dir, spareSegment)
	if err = fillFile(spare, segmentBytes); err == nil {
		err = os.Link(spare, next)
	}
	if errors.Is(err, fs.ErrExist) { // etcd was faster.
		err = nil
	}
	return errors.Join(err, os.Remove(spare))
}

// next is the path of the segment that etcd opens next; empty when it is there, or etcd is about to open it.
func (p *prefiller) next() (string, error) {
	var absent []string
	for _, name := range nextSegments {
		path := filepath.Join(p.dir, name)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			absent = append(absent, path)
		} else if err != nil {
			return "", err
		}
	}
	if len(absent) != 1 {
		return "", nil
	}
	return absent[0], nil
}

// fillFile makes a file of zeros, on the disk.
func fillFile(path string, size int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	zeros := make([]byte, 64<<10)
	for left := size; left > 0 && err == nil; left -= len(zeros) {
		_, err = f.Write(zeros[:min(left, len(zeros))])
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
