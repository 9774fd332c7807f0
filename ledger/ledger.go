// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package ledger remembers what kogge made on a host outside the folders that it owns whole, so that a reset can undo it
// and prove that nothing is left: links, addresses, routes, nftables tables, sysctls with their old value, files.
//
// The protocol is write-ahead. Record(entry) returns once the entry is on disk; only then may its owner make the thing.
// Forget(entry) follows a removal. A crash in between leaves an entry for something that does not exist, which Undo and
// Verify take as done. The file is a list of JSON lines, appended and synced; a torn last line, which nobody has acted
// on, is dropped on opening.
//
// One process writes a ledger; a lock on the file holds that. Each node has its own.
package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Kind is what an entry is about. It decides how the entry is undone.
type Kind string

// Kinds of entries. Name says which one.
const (
	// Link is a network device, by name. A bridge is undone with its ports.
	Link Kind = "link"
	// Address is an address on a link that may not be ours: "eth0 10.0.0.1/32".
	Address Kind = "address"
	// Route is a route that kogge made (hostnet.Protocol), by its destination.
	Route Kind = "route"
	// Table is an nftables table of family inet, by name.
	Table Kind = "table"
	// Sysctl is a kernel setting, by its name below /proc/sys; Old is the value to go back to.
	Sysctl Kind = "sysctl"
	// File is a file, by its absolute path.
	File Kind = "file"
	// Folder is a folder by its absolute path. It is removed only if it is empty.
	Folder Kind = "folder"
	// Tree is a folder that kogge owns with all that is in it.
	Tree Kind = "tree"
	// Namespace is a network namespace mounted on an absolute path.
	Namespace Kind = "namespace"
)

// Entry is one thing that was made or changed.
type Entry struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
	// Old is the value before the change; for Sysctl only.
	Old string `json:"old,omitempty"`
}

func (e Entry) String() string { return string(e.Kind) + " " + e.Name }

func (e Entry) validate() error {
	switch e.Kind {
	case Link, Address, Route, Table, Sysctl:
	case File, Folder, Tree, Namespace:
		if !filepath.IsAbs(e.Name) || filepath.Clean(e.Name) != e.Name || e.Name == "/" {
			return fmt.Errorf("ledger entry %s: need a clean absolute path", e)
		}
	default:
		return fmt.Errorf("ledger entry %s: unknown kind", e)
	}
	if e.Name == "" {
		return fmt.Errorf("ledger entry of kind %s has no name", e.Kind)
	}
	return nil
}

// line is one line of the file.
type line struct {
	Entry

	// Gone marks the end of an earlier entry of the same kind and name.
	Gone bool `json:"gone,omitempty"`
}

// ErrLocked is returned by Open while another process has the ledger open.
var ErrLocked = errors.New("ledger is in use by another process")

// Config says where a ledger lives.
type Config struct {
	// Path is the file; its folder is made if needed.
	Path string
	// NetNS is the path of the network namespace that the entries are about; empty for that of this process.
	NetNS string
}

// Ledger is an open ledger. It is safe for concurrent use.
type Ledger struct {
	config Config

	mu sync.Mutex

	file *os.File
	// entries are the live ones, in the order in which they were first recorded.
	entries []Entry
}

// Open reads the ledger, making an empty one if there is none, and locks it.
func Open(config Config) (*Ledger, error) {
	if err := os.MkdirAll(filepath.Dir(config.Path), 0o755); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	file, err := os.OpenFile(config.Path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l := &Ledger{config: config, file: file}
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger %s: %w", config.Path, err), file.Close())
	}
	return l, nil
}

// load locks the file, reads it and cuts a torn last line off.
func (l *Ledger) load() error {
	if err := unix.Flock(int(l.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return ErrLocked
		}
		return err
	}
	reader := bufio.NewReader(l.file)
	var good int64
	for n := 1; ; n++ {
		text, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // what remains has no newline: torn
		}
		if err != nil {
			return err
		}
		var entry line
		if err := json.Unmarshal(text, &entry); err != nil {
			if _, peek := reader.Peek(1); errors.Is(peek, io.EOF) {
				break // torn inside a block that holds the newline
			}
			return fmt.Errorf("line %d: %w", n, err)
		}
		good += int64(len(text))
		l.applyLocked(entry)
	}
	if err := l.file.Truncate(good); err != nil {
		return err
	}
	_, err := l.file.Seek(good, io.SeekStart)
	return err
}

// applyLocked changes the live entries.
func (l *Ledger) applyLocked(e line) {
	i := l.findLocked(e.Entry)
	switch {
	case e.Gone && i >= 0:
		l.entries = slices.Delete(l.entries, i, i+1)
	case !e.Gone && i < 0:
		l.entries = append(l.entries, e.Entry)
	}
}

func (l *Ledger) findLocked(e Entry) int {
	return slices.IndexFunc(l.entries, func(o Entry) bool { return o.Kind == e.Kind && o.Name == e.Name })
}

// Record notes an entry before the thing is made. Recording what is recorded does nothing: the first old value of a
// sysctl is the one that counts.
func (l *Ledger) Record(e Entry) error {
	if err := e.validate(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.findLocked(e) >= 0 {
		return nil
	}
	return l.appendLocked(line{Entry: e})
}

// Forget notes that a thing is gone.
func (l *Ledger) Forget(e Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.findLocked(e) < 0 {
		return nil
	}
	return l.appendLocked(line{Entry: Entry{Kind: e.Kind, Name: e.Name}, Gone: true})
}

// appendLocked writes and syncs one line. The entries change only after that.
func (l *Ledger) appendLocked(e line) error {
	var text bytes.Buffer
	if err := json.NewEncoder(&text).Encode(e); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	if _, err := l.file.Write(text.Bytes()); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	l.applyLocked(e)
	return nil
}

// Entries lists the live entries in the order in which they were recorded.
func (l *Ledger) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// Close releases the file and its lock.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
