// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"iter"
	"strings"
	"time"

	"github.com/google/btree"
)

// degree of the trees: nodes of 32 to 64 items, so that three levels hold 100,000 objects.
const degree = 32

// item of a tree: the key beside the pointer, so that comparing doesn't follow it and looking up doesn't allocate.
type item struct {
	key   string
	entry *Entry
}

func newTree() *btree.BTreeG[item] {
	return btree.NewG(degree, func(a, b item) bool { return a.key < b.key })
}

// Snapshot is the content of a cache at one revision. It is immutable and may be read by many.
type Snapshot struct {
	// Revision that the snapshot shows.
	Revision int64

	prefix string
	// base is the revision of the youngest change in tree.
	base int64
	tree *btree.BTreeG[item]
}

// Len is the number of objects.
func (s *Snapshot) Len() int { return s.tree.Len() }

// Get returns the entry of a key, or nil.
func (s *Snapshot) Get(key string) *Entry {
	found, _ := s.tree.Get(item{key: key})
	return found.entry
}

// All iterates in key order over the entries whose keys begin with prefix (empty: all), beginning at the key from (empty:
// the first).
func (s *Snapshot) All(prefix, from string) iter.Seq[*Entry] {
	if prefix == "" {
		prefix = s.prefix
	}
	return func(yield func(*Entry) bool) {
		s.tree.AscendGreaterOrEqual(item{key: max(prefix, from)}, func(it item) bool {
			return strings.HasPrefix(it.key, prefix) && yield(it.entry)
		})
	}
}

// count counts the entries under prefix from a key on.
func (s *Snapshot) count(prefix, from string) int64 {
	var n int64
	for range s.All(prefix, from) {
		n++
	}
	return n
}

// page answers List from the snapshot.
func (s *Snapshot) page(opts ListOptions) Page {
	page := Page{Revision: s.Revision, Remaining: 0}
	if opts.Filter == nil && opts.Limit == 0 && opts.From == "" && (opts.Prefix == "" || opts.Prefix == s.prefix) {
		page.Entries = make([]*Entry, 0, s.Len())
	}
	for e := range s.All(opts.Prefix, opts.From) {
		if opts.Limit > 0 && len(page.Entries) == opts.Limit {
			page.Next = e.Key
			break
		}
		if opts.Filter == nil || opts.Filter(e) {
			page.Entries = append(page.Entries, e)
		}
	}
	if page.Next != "" {
		page.Remaining = -1
		if opts.Filter == nil {
			page.Remaining = s.count(opts.Prefix, page.Next)
		}
	}
	return page
}

// keptSnapshot is a snapshot of the past, kept because somebody is paging through it.
type keptSnapshot struct {
	tree *btree.BTreeG[item]
	// from and until are the first and the last revision that the tree shows.
	from, until int64
	used        time.Time
}
