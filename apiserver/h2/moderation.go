// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"time"

	"golang.org/x/net/http2"
)

const (
	// lull is how long a read is put off, and so how long a request may wait that comes meanwhile.
	lull = time.Millisecond
	// quick is how soon after one another reads must follow, and quickReads how many of them, before the next is put off.
	quick      = 300 * time.Microsecond
	quickReads = 4
	// fewest window updates that a read that was put off must bring for the next to be put off, too.
	fewest = 2
)

// moderation decides which reads of a connection are put off: those that will bring one window update after the other, and nothing else. To be woken
// for each costs more than to deal with it, and there are fifty of them when the client has read an event on fifty streams; it has room meanwhile.
// Network cards do the same with interrupts.
type moderation struct {
	// updates of windows that came since the last read, and others, which are more urgent.
	updates, others int
	// row counts the quick reads one after the other, last is when the last of them began.
	row  int
	last time.Time
	// on is set while reads are put off.
	on bool
}

// saw notes a frame that came.
func (m *moderation) saw(f http2.Frame) {
	if _, ok := f.(*http2.WindowUpdateFrame); ok {
		m.updates++
	} else {
		m.others++
	}
}

// next tells whether the read that begins now is put off.
func (m *moderation) next(now time.Time) bool {
	updates, urgent := m.updates, m.others > 0
	m.updates, m.others = 0, 0
	switch {
	case m.on:
		m.on = updates >= fewest && !urgent
	case updates == 0 || urgent || now.Sub(m.last) > quick:
		m.row = 0
	default:
		if m.row++; m.row == quickReads {
			m.on, m.row = true, 0
		}
	}
	m.last = now
	return m.on
}
