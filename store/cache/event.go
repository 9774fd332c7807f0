// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import "time"

// EventType says what an Event tells its watcher.
type EventType uint8

// The event types of the watch protocol. Errors are not events: Next returns them.
const (
	// Added: the object came into the watcher's sight: it was created, began to match the filter, or is an initial event.
	Added EventType = iota + 1
	// Modified: the object changed and matched before and after.
	Modified
	// Deleted: the object left the watcher's sight: it was deleted or no longer matches the filter.
	Deleted
	// Bookmark: everything up to Revision has been delivered.
	Bookmark
)

// String returns the word of the watch protocol.
func (t EventType) String() string {
	switch t {
	case Added:
		return "ADDED"
	case Modified:
		return "MODIFIED"
	case Deleted:
		return "DELETED"
	case Bookmark:
		return "BOOKMARK"
	default:
		return "UNKNOWN"
	}
}

// Event is what a Watcher delivers.
type Event struct {
	Type EventType
	// Entry is the object to send; nil for bookmarks. For Deleted it is the last state that the watcher could see (the
	// deleted object, or the one before it stopped matching) at the revision of the change that removed it from sight.
	Entry *Entry
	// Prev is the object before the change; nil where there was none, for initial events and for bookmarks.
	Prev *Entry
	// Revision of the change. For a bookmark: everything up to it has been delivered. Initial events carry the revision of
	// the object.
	Revision int64
	// InitialEnd marks the bookmark that ends the initial events (the k8s.io/initial-events-end annotation on the wire).
	InitialEnd bool
}

// WatchOptions select what a Watcher delivers.
type WatchOptions struct {
	// Prefix that keys must begin with: the cache's own prefix (the default) or a namespace below it. Ends with a slash.
	Prefix string
	// Key, when set, is the only key watched (a metadata.name field selector); Prefix is ignored.
	Key string
	// Index, when set, asks for the objects whose Config.IndexField has this value, before or after a change. It spares
	// the watcher all other wake-ups; Filter must still tell whether an object matches.
	Index string
	// AfterRevision is the revision after which changes are delivered. With SendInitialEvents it is ignored: the changes
	// follow the state that was sent.
	AfterRevision int64
	// SendInitialEvents delivers the current state as Added events first.
	SendInitialEvents bool
	// MarkInitialEnd delivers a bookmark with InitialEnd after them.
	MarkInitialEnd bool
	// Bookmarks delivers a bookmark about every minute, and one shortly before Deadline, if there is one.
	Bookmarks bool
	Deadline  time.Time
	// Woken, when set, is called when there may be something to Poll, now and then without reason. It must not block, and may be called on any
	// goroutine, also once the watcher is closed.
	Woken func()
	// Filter tells whether an object is in the watcher's sight; nil means all are. It runs on the watcher's goroutine. An
	// entry that it can't judge (undecodable) should be let through, so that the error surfaces where the entry is encoded.
	Filter func(*Entry) bool
}

// ListOptions select what List returns.
type ListOptions struct {
	// Prefix that keys must begin with; empty means the cache's own.
	Prefix string
	// From, when set, is the first key to return (inclusive).
	From string
	// Limit bounds the number of entries returned; 0 means no bound.
	Limit int
	// Index, when set, asks only for the objects whose Config.IndexField has this value: a list of the current state, without Limit
	// and From, then finds them without looking at all. Filter must still tell whether an object matches.
	Index string
	// Revision to read at exactly; 0 means what the cache has now (call Fresh or WaitFor before, as needed). Revisions
	// that left the cache's history are read from the store; store.ErrCompacted where they are gone there, too.
	Revision int64
	// Filter tells which entries to return; nil means all.
	Filter func(*Entry) bool
}

// Page is an answer to List, in key order.
type Page struct {
	Entries []*Entry
	// Revision that the page shows.
	Revision int64
	// Next is the key to continue from; empty when the list is complete.
	Next string
	// Remaining counts the entries after the page, or is -1 when that is not known because of a Filter.
	Remaining int64
}
