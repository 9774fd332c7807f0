// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"kogge.dev/kogge/internal/invariant"
	"kogge.dev/kogge/store"
)

// Bounds of the log. A change stays for at least logWindow, as long as there are no more than logMax of them, so that a client
// that lost its connection finds its place again; the youngest logMin stay however old they are, or logMinPacked where values are large.
const (
	logMin       = 128
	logMinPacked = 16
	logMax       = 1 << 16
	logWindow    = 75 * time.Second
	// logStep is how much longer than that changes stay while none follows, so that those of one time go together.
	logStep = time.Second
)

// Bounds of the kept snapshots: their number, and how long one is kept that nobody pages through.
const (
	keptMax = 8
	keptFor = 2 * time.Minute
)

// core is the state of a cache and what it decides: which scopes a change touches, what has become too old, what a
// revision looked like. No goroutines, locks or clock; the Cache around it guards it. Invariants:
//   - now holds the objects as they are at revision, and log the changes that led there from oldest.
//   - every change in log with prev set has prev.Revision < entry.Revision, and revisions in log never fall.
//   - a scope's seqs are those of the changes in log that touch it.
type core struct {
	prefix string
	// index returns the index value of an entry; nil when the cache has no index. It is called only while indexed > 0.
	index func(*Entry) string
	// byIndex holds what now holds by index value and key (see indexKey), but for what has no such value, from the first time that somebody
	// lists by it, while byIndexed is set.
	byIndex   contents
	byIndexed bool

	now contents
	// size is the sum of the stored bytes of what now holds.
	size int64
	// revision of the youngest change, or of the list that the cache began with.
	revision int64
	// oldest revision after which changes can be read.
	oldest int64
	log    changeLog
	// least is how many changes stay in the log.
	least int

	// current shows a clone of now, made when a reader asks, nil after the next change.
	current *view
	// paged is set when a page of current was served that has a next one.
	paged bool
	kept  []keptSnapshot

	// all is the scope of everything, scopes the others by name: namespace prefixes, keys, and index values behind a zero
	// byte. A scope exists while it has watchers.
	all    scope
	scopes map[string]*scope
	// indexed counts the scopes of index values, and byIndex.
	indexed int
}

// replace sets the content to what was listed at revision. Entries that did not change are kept, so that what was derived from
// them stays. History ends: every watcher has lost its place. It returns the entries that nobody can find any more.
func (c *core) replace(entries []*Entry, revision int64) (dead []*Entry) {
	var now contents
	size := int64(0)
	for _, e := range entries {
		if old := c.now.get(e.Key); old != nil && old.Revision == e.Revision && bytes.Equal(old.Value(), e.Value()) {
			// The value differs where the store below could not decrypt it before.
			e = old
		} else {
			e.count()
		}
		size += e.counted
		now.put(e.Key, e)
	}
	c.now.from("", func(old item) bool {
		if now.get(old.key) != old.entry {
			dead = append(dead, old.entry)
		}
		return true
	})
	for c.log.size() > 0 {
		dead = append(dead, gone(c.log.pop())...)
	}
	// One number is skipped, so that even a cursor that stood at the end is behind.
	c.log.next++
	c.log.first = c.log.next
	for _, s := range c.scopes {
		s.seqs, s.head, s.since, s.lost = nil, 0, c.log.next, c.log.next
	}
	c.now, c.size, c.current, c.paged, c.kept = now, size, nil, false, nil
	c.revision, c.oldest = revision, revision
	if c.byIndexed {
		c.byIndex, c.byIndexed = contents{}, false
		c.indexed--
	}
	return dead
}

// apply takes in one change that happened after all before, and returns the scopes that it touches. fresh is its new state.
func (c *core) apply(ev store.Event, fresh *Entry, now time.Time, touched []*scope) []*scope {
	if invariant.Enabled {
		invariant.Check(ev.ModRevision >= c.revision, "a change of %s at revision %d comes after revision %d", ev.Key, ev.ModRevision, c.revision)
	}
	if c.current != nil {
		if c.paged {
			c.keep(keptSnapshot{view: c.current, from: c.revision, until: ev.ModRevision - 1, used: now})
		}
		c.current, c.paged = nil, false
	}
	ch := &change{entry: fresh, deleted: ev.Deleted, at: now}
	if ev.Deleted {
		ch.prev = c.now.remove(ev.Key)
	} else {
		ch.prev = c.now.put(ev.Key, fresh)
	}
	if ch.prev != nil {
		c.size -= ch.prev.counted
		ch.prev.uncount()
	}
	if !ch.deleted {
		fresh.count()
		c.size += fresh.counted
	}
	if ch.prev != nil && ch.deleted {
		fresh.is(ch.prev)
	}
	if c.byIndexed {
		if ch.prev != nil {
			c.byIndex.remove(indexKey(c.index(ch.prev), ch.prev))
		}
		if !ch.deleted {
			c.addIndexed(fresh)
		}
	}
	c.revision = ev.ModRevision
	seq := c.log.next
	c.log.push(ch)
	return c.touch(ch, seq, touched)
}

// touch lists a change in the scopes that it is in, and appends them to touched.
func (c *core) touch(ch *change, seq uint64, touched []*scope) []*scope {
	hit := func(s *scope) {
		s.push(seq, c.log.first)
		if !s.touched {
			s.touched = true
			touched = append(touched, s)
		}
	}
	hit(&c.all)
	if len(c.scopes) == 0 {
		return touched
	}
	for _, name := range c.names(ch) {
		if s := c.scopes[name]; s != nil {
			hit(s)
		}
	}
	return touched
}

// names returns the scopes that a change is in, other than everything; unused places are empty.
func (c *core) names(ch *change) (names [4]string) {
	dir, _ := splitKey(ch.entry.Key)
	names[0] = ch.entry.Key
	if dir != c.prefix {
		names[1] = dir
	}
	if c.indexed > 0 {
		names[2] = indexScope(c.index(ch.entry))
		if ch.prev != nil && !ch.deleted {
			if before := indexScope(c.index(ch.prev)); before != names[2] {
				names[3] = before
			}
		}
	}
	return names
}

// trim drops what has become too old and returns the entries that nobody can find any more.
func (c *core) trim(now time.Time) (dead []*Entry) {
	for n := c.log.size(); n > c.least; n = c.log.size() {
		if n <= logMax && now.Sub(c.log.get(c.log.first).at) < logWindow {
			break
		}
		ch := c.log.pop()
		c.oldest = ch.revision()
		dead = append(dead, gone(ch)...)
	}
	for len(c.kept) > 0 && now.Sub(c.kept[0].used) > keptFor {
		c.kept = c.kept[1:]
	}
	return dead
}

// entries returns all that can be found, each once: the content, and what only the history refers to.
func (c *core) entries() (all []*Entry) {
	c.now.from("", func(i item) bool {
		all = append(all, i.entry)
		return true
	})
	for seq := c.log.first; seq != c.log.next; seq++ {
		all = append(all, gone(c.log.get(seq))...)
	}
	return all
}

// gone returns the entries that only this change referred to.
func gone(ch *change) (dead []*Entry) {
	if ch.prev != nil {
		dead = append(dead, ch.prev)
	}
	if ch.deleted {
		dead = append(dead, ch.entry)
	}
	if e := ch.left.Load(); e != nil {
		dead = append(dead, e)
	}
	return dead
}

// join returns the scope of that name, listing the changes in it from the sequence cursor on.
func (c *core) join(name string, cursor uint64) *scope {
	if name == "" || name == c.prefix {
		return &c.all
	}
	s := c.scopes[name]
	if s == nil {
		s = &scope{name: name, since: c.log.next}
		if c.scopes == nil {
			c.scopes = map[string]*scope{}
		}
		c.scopes[name] = s
		if isIndexScope(name) {
			c.indexed++
		}
	}
	if cursor < s.since {
		var before []uint64
		for seq := cursor; seq < s.since; seq++ {
			names := c.names(c.log.get(seq))
			if slices.Contains(names[:], name) {
				before = append(before, seq)
			}
		}
		s.seqs, s.head, s.since = append(before, s.seqs[s.head:]...), 0, cursor
	}
	return s
}

// leave drops a scope that has no more watchers.
func (c *core) leave(s *scope) {
	if s.all || len(s.watchers) > 0 || c.scopes[s.name] != s {
		return
	}
	delete(c.scopes, s.name)
	if isIndexScope(s.name) {
		c.indexed--
	}
}

// read appends to buf up to limit changes of a scope from cursor on. It returns the cursor behind them, and false when
// changes of the scope have left the log unread.
func (c *core) read(s *scope, cursor uint64, limit int, buf []*change) ([]*change, uint64, bool) {
	if s.all {
		if cursor < c.log.first {
			return buf, cursor, false
		}
		end := min(c.log.next, cursor+uint64(limit)) // limit is positive
		for ; cursor < end; cursor++ {
			buf = append(buf, c.log.get(cursor))
		}
		return buf, cursor, true
	}
	seqs := s.pending(cursor)
	if cursor < s.lost || (len(seqs) > 0 && seqs[0] < c.log.first) {
		return buf, cursor, false
	}
	for _, seq := range seqs[:min(limit, len(seqs))] {
		buf = append(buf, c.log.get(seq))
		cursor = seq + 1
	}
	if len(seqs) <= limit {
		cursor = c.log.next
	}
	return buf, cursor, true
}

// withIndex returns, in key order, the entries with an index value whose keys begin with prefix.
func (c *core) withIndex(value, prefix string) (out []*Entry) {
	if !c.byIndexed {
		c.byIndexed = true
		c.indexed++
		c.now.from("", func(it item) bool {
			c.addIndexed(it.entry)
			return true
		})
	}
	first := value + "\x00" + prefix
	c.byIndex.from(first, func(it item) bool {
		if !strings.HasPrefix(it.key, first) {
			return false
		}
		out = append(out, it.entry)
		return true
	})
	return out
}

// addIndexed adds an entry to byIndex. Nobody lists those without a value by it.
func (c *core) addIndexed(e *Entry) {
	if value := c.index(e); value != "" {
		c.byIndex.put(indexKey(value, e), e)
	}
}

// indexKey is the key in byIndex of an entry with an index value.
func indexKey(value string, e *Entry) string { return value + "\x00" + e.Key }

// snapshot returns the current content.
func (c *core) snapshot() *view {
	switch {
	case c.current != nil:
	case c.now.len() == 0:
		c.current = nothing
	default:
		c.current = &view{contents: c.now.clone()}
	}
	return c.current
}

// at returns the content as of a past or the current revision, or nil where history doesn't reach.
func (c *core) at(revision int64, now time.Time) *view {
	if revision >= c.revision {
		return c.snapshot()
	}
	for i := range c.kept {
		if k := &c.kept[i]; k.from <= revision && revision <= k.until {
			found := *k
			found.used = now
			c.kept = append(append(c.kept[:i:i], c.kept[i+1:]...), found)
			return found.view
		}
	}
	if revision < c.oldest {
		return nil
	}
	then := c.now.clone()
	keep := keptSnapshot{from: c.oldest, used: now}
	for seq := c.log.next; seq > c.log.first; seq-- {
		ch := c.log.get(seq - 1)
		if ch.revision() <= revision {
			keep.from = ch.revision()
			break
		}
		keep.until = ch.revision() - 1
		if ch.prev == nil {
			then.remove(ch.entry.Key)
		} else {
			then.put(ch.prev.Key, ch.prev)
		}
	}
	keep.view = &view{contents: then}
	c.keep(keep)
	return keep.view
}

// hold keeps a view that was current at revision base, because a page of it was served that has a next one.
func (c *core) hold(v *view, base int64, now time.Time) {
	if v == c.current {
		c.paged = true
		return
	}
	for i := range c.kept {
		if c.kept[i].view == v {
			return
		}
	}
	if next := c.log.after(base); base >= c.oldest && next < c.log.next {
		c.keep(keptSnapshot{view: v, from: base, until: c.log.get(next).revision() - 1, used: now})
	}
}

// keep remembers a past snapshot; the least recently used makes room.
func (c *core) keep(k keptSnapshot) {
	if len(c.kept) == keptMax {
		c.kept = append(c.kept[:0], c.kept[1:]...)
	}
	c.kept = append(c.kept, k)
}

// splitKey splits a key behind its last slash.
func splitKey(key string) (dir, name string) {
	i := strings.LastIndexByte(key, '/') + 1
	return key[:i], key[i:]
}

// indexScope names the scope of an index value. A zero byte never begins a key.
func indexScope(value string) string { return "\x00" + value }

func isIndexScope(name string) bool { return strings.HasPrefix(name, "\x00") }
