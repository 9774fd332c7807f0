// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"kogge.dev/kogge/kinds"
)

// memoCost is what a memo is charged besides its content, in bytes.
const memoCost = 160

// maxSpared bounds the second chances that one addition hands out, so that it never walks a long list of hot memos.
const maxSpared = 32

// decodedCost estimates the memory of an object decoded from n stored bytes.
func decodedCost(n int) int64 { return 3*int64(n) + 1024 + memoCost }

// attrsCost estimates the memory of attributes: labels are the object's own.
func attrsCost(a *attrs) int64 { return 256 + 48*int64(len(a.labels)+len(a.fields)) + memoCost }

// memo is one remembered derivation of an entry: the decoded object, its attributes or one encoding.
type memo struct {
	owner  *derived
	object kinds.Object // set for a decoded object
	attrs  *attrs       // set for attributes
	format string       // set for an encoding
	data   atomic.Pointer[[]byte]
	// filling is held while data is made, so that it is made once.
	filling sync.Mutex
	// hot is set by readers and cleared when the memo gets its second chance.
	hot atomic.Bool
	// reads counts for the sampled checks of the invariants build.
	reads atomic.Uint32

	// cost in bytes; set before the memo is added to the budget.
	cost int64

	// prev, next, listed and looked are guarded by budget.mu.
	prev, next *memo
	listed     bool
	// looked is the last look of the budget at idle memos that found this one.
	looked uint64
}

func (m *memo) touch() {
	if !m.hot.Load() { // Don't write the shared line when it is set already.
		m.hot.Store(true)
	}
}

// perStored is how many bytes may be derived for each that is stored: as much as all objects in two encodings, so that repeated lists of everything
// are not encoded each time.
const perStored = 2

// idleLook is the time between two looks at what is idle. A memo that was not read from one look to the next goes, unless it holds attributes:
// they are small, and a selector needs those of every object.
const idleLook = 2 * time.Minute

// lookAtOnce is how many memos a look handles before it lets others at the budget.
const lookAtOnce = 256

// budget bounds the bytes that all memos of a process hold. It evicts in order of age, sparing once what was read since
// it last looked; and what nobody has read for minutes, however much room there is.
type budget struct {
	// base is what may be held however little is stored.
	base int64
	// stored counts the bytes of all entries that are content of their caches.
	stored atomic.Int64

	mu   sync.Mutex
	used int64
	// ring is the sentinel of a circular list, oldest first.
	ring memo
	// looks counts the looks at what is idle.
	looks uint64
}

func newBudget(base int64) *budget {
	b := &budget{base: base}
	b.ring.prev, b.ring.next = &b.ring, &b.ring
	return b
}

// add lists a memo and evicts others where the budget is exceeded.
func (b *budget) add(m *memo) {
	var victims []*memo
	limit := b.base + perStored*b.stored.Load()
	b.mu.Lock()
	if !m.listed {
		b.pushLocked(m)
		b.used += m.cost
	}
	for spared := 0; b.used > limit && b.ring.next != m && b.ring.next != &b.ring; {
		oldest := b.ring.next
		b.unlinkLocked(oldest)
		if oldest.hot.Swap(false) && spared < maxSpared {
			spared++
			b.pushLocked(oldest)
			continue
		}
		b.used -= oldest.cost
		victims = append(victims, oldest)
	}
	b.mu.Unlock()
	for _, v := range victims {
		v.owner.evicted(v)
	}
}

// room reports whether so many bytes can be added without evicting others.
func (b *budget) room(cost int64) bool {
	limit := b.base + perStored*b.stored.Load()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used+cost <= limit
}

// run looks at what is idle until ctx ends.
func (b *budget) run(ctx context.Context) {
	ticker := time.NewTicker(idleLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			b.dropIdle()
		}
	}
}

// dropIdle evicts what was not read since the last look.
func (b *budget) dropIdle() {
	b.mu.Lock()
	b.looks++
	b.mu.Unlock()
	for more := true; more; {
		var idle []*memo
		b.mu.Lock()
		for range lookAtOnce {
			m := b.ring.next
			if more = m != &b.ring && m.looked != b.looks; !more {
				break
			}
			b.unlinkLocked(m)
			if known := m.looked != 0; m.hot.Swap(false) || !known || m.attrs != nil {
				m.looked = b.looks
				b.pushLocked(m)
				continue
			}
			b.used -= m.cost
			idle = append(idle, m)
		}
		b.mu.Unlock()
		for _, m := range idle {
			m.owner.evicted(m)
		}
	}
}

// remove takes a memo out.
func (b *budget) remove(m *memo) {
	b.mu.Lock()
	if m.listed {
		b.unlinkLocked(m)
		b.used -= m.cost
	}
	b.mu.Unlock()
	m.owner.evicted(m)
}

func (b *budget) pushLocked(m *memo) {
	m.prev, m.next = b.ring.prev, &b.ring
	m.prev.next, m.next.prev = m, m
	m.listed = true
}

func (b *budget) unlinkLocked(m *memo) {
	m.prev.next, m.next.prev = m.next, m.prev
	m.prev, m.next = nil, nil
	m.listed = false
}
