// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"sort"
	"sync/atomic"
	"time"
)

// change is one event in the log, shared by all watchers.
type change struct {
	// entry is the new state, or for a deletion the last state at the deletion's revision.
	entry *Entry
	// prev is the state before, nil when the object was created.
	prev    *Entry
	deleted bool
	at      time.Time
	// left is prev at this revision, made when the first watcher sees the object leave its sight.
	left atomic.Pointer[Entry]
}

func (c *change) revision() int64 { return c.entry.Revision }

// leaving returns the entry that a watcher is sent when the object leaves its sight.
func (c *change) leaving() *Entry {
	if e := c.left.Load(); e != nil {
		return e
	}
	c.left.CompareAndSwap(nil, c.prev.at(c.revision()))
	return c.left.Load()
}

// changeLog is the recent history: a ring of changes, each with a sequence number that is never used again.
//
//	first                    next
//	  v                        v
//	[ c0  c1  c2  c3  c4  c5 ]      ring index of sequence s: s & (len(ring)-1)
type changeLog struct {
	ring []*change
	// first is the sequence of the oldest change, next the one that the next change will get.
	first, next uint64
}

// Bounds of the ring's length: what it begins with, as most caches see few changes, and what it does not shrink below.
const (
	ringFirst = 8
	ringLeast = 64
)

func (l *changeLog) size() int { return int(l.next - l.first) }

func (l *changeLog) get(seq uint64) *change { return l.ring[seq&uint64(len(l.ring)-1)] }

func (l *changeLog) push(c *change) {
	if l.size() == len(l.ring) {
		l.resize(max(2*len(l.ring), ringFirst))
	}
	l.ring[l.next&uint64(len(l.ring)-1)] = c
	l.next++
}

// pop drops the oldest change. The ring gives memory back when three quarters of it are empty.
func (l *changeLog) pop() *change {
	i := l.first & uint64(len(l.ring)-1)
	c := l.ring[i]
	l.ring[i] = nil
	l.first++
	if len(l.ring) > ringLeast && l.size() <= len(l.ring)/4 {
		l.resize(len(l.ring) / 2)
	}
	return c
}

func (l *changeLog) resize(n int) {
	ring := make([]*change, n)
	for s := l.first; s < l.next; s++ {
		ring[s&uint64(n-1)] = l.get(s)
	}
	l.ring = ring
}

// after returns the sequence of the first change whose revision is greater.
func (l *changeLog) after(revision int64) uint64 {
	return l.first + uint64(sort.Search(l.size(), func(i int) bool {
		return l.get(l.first+uint64(i)).revision() > revision
	}))
}

// scope is a part of the cache that watchers look at: all of it, one namespace, one key, or one value of the index. It
// lists the sequence numbers of the changes in it, so that a watcher is not woken for others and finds its own without
// looking at them.
type scope struct {
	name string
	// all marks the scope that every change is in; it needs no list.
	all bool
	// seqs of the changes that are in this scope, from the sequence since on, ascending; those before head are gone.
	seqs  []uint64
	head  int
	since uint64
	// lost is one more than the highest sequence that was dropped from seqs: a cursor below it has missed something.
	lost uint64

	// The rest belongs to the driver: who is to be woken, and whether; when they were woken last, and whether a timer will wake them.
	watchers []*Watcher
	touched  bool
	woken    time.Time
	waits    bool
}

// push adds the sequence of a new change, and lets go of those before first, which left the log.
func (s *scope) push(seq, first uint64) {
	if s.all {
		return
	}
	for s.head < len(s.seqs) && s.seqs[s.head] < first {
		s.lost = s.seqs[s.head] + 1
		s.head++
	}
	if s.head > 64 && s.head > len(s.seqs)/2 {
		s.seqs = append(s.seqs[:0], s.seqs[s.head:]...)
		s.head = 0
	}
	s.seqs = append(s.seqs, seq)
}

// pending returns the sequences from cursor on that are in the scope (unless it is everything).
func (s *scope) pending(cursor uint64) []uint64 {
	live := s.seqs[s.head:]
	return live[sort.Search(len(live), func(i int) bool { return live[i] >= cursor }):]
}
