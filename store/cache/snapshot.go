// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
)

// Snapshot is the content of a cache at one revision. It is immutable and may be read by many.
type Snapshot struct {
	// Revision that the snapshot shows.
	Revision int64

	prefix string
	// base is the revision of the youngest change in it.
	base int64
	*view
}

// view is content that changes no more, in order where lists asked for it.
type view struct {
	contents

	mu sync.Mutex
	// ordered holds the entries in key order by the prefix of their keys, so that pages are slices of it and what remains behind one is
	// known without counting. Only prefixes that have entries are in it: there are no more of them than objects.
	ordered map[string][]*Entry
}

// nothing is the view of all that is empty.
var nothing = new(view)

// under returns the entries whose keys begin with prefix, in key order. Callers share the slice and must not change it.
func (v *view) under(prefix string) []*Entry {
	if v == nothing {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	all, ok := v.ordered[prefix]
	if ok {
		return all
	}
	end := v.behind(prefix)
	v.from(prefix, func(it item) bool {
		if it.entry == end {
			return false
		}
		all = append(all, it.entry)
		return true
	})
	if len(all) == 0 {
		return nil
	}
	if v.ordered == nil {
		v.ordered = map[string][]*Entry{}
	}
	all = slices.Clip(all)
	v.ordered[prefix] = all
	return all
}

// Len is the number of objects.
func (s *Snapshot) Len() int { return s.len() }

// Get returns the entry of a key, or nil.
func (s *Snapshot) Get(key string) *Entry { return s.get(key) }

// All iterates in key order over the entries whose keys begin with prefix (empty: all), beginning at the key from (empty:
// the first).
func (s *Snapshot) All(prefix, from string) iter.Seq[*Entry] {
	if prefix == "" {
		prefix = s.prefix
	}
	return func(yield func(*Entry) bool) {
		if from = max(prefix, from); !strings.HasPrefix(from, prefix) {
			return
		}
		end := s.behind(prefix)
		s.from(from, func(it item) bool { return it.entry != end && yield(it.entry) })
	}
}

// behind returns the first entry behind those whose keys begin with prefix, or nil: who meets it need not look at each key.
func (v *view) behind(prefix string) (first *Entry) {
	last := len(prefix) - 1 // A slash.
	v.from(prefix[:last]+string(prefix[last]+1), func(it item) bool {
		first = it.entry
		return false
	})
	return first
}

// page answers List from the snapshot.
func (s *Snapshot) page(opts ListOptions) Page {
	if opts.Prefix == "" {
		opts.Prefix = s.prefix
	}
	if opts.Filter == nil {
		return s.slice(opts)
	}
	page := Page{Revision: s.Revision}
	for e := range s.All(opts.Prefix, opts.From) {
		if opts.Limit > 0 && len(page.Entries) == opts.Limit {
			page.Next, page.Remaining = e.Key, -1
			break
		}
		if opts.Filter(e) {
			page.Entries = append(page.Entries, e)
		}
	}
	return page
}

// slice answers a list without a filter.
func (s *Snapshot) slice(opts ListOptions) Page {
	rest := s.under(opts.Prefix)
	if opts.From != "" {
		from, _ := slices.BinarySearchFunc(rest, opts.From, func(e *Entry, key string) int { return strings.Compare(e.Key, key) })
		rest = rest[from:]
	}
	page := Page{Revision: s.Revision, Entries: rest}
	if n := opts.Limit; n > 0 && n < len(rest) {
		page.Entries, page.Next, page.Remaining = rest[:n:n], rest[n].Key, int64(len(rest)-n)
	}
	return page
}

// keptSnapshot is a snapshot of the past, kept because somebody is paging through it.
type keptSnapshot struct {
	view *view
	// from and until are the first and the last revision that the view shows.
	from, until int64
	used        time.Time
}
