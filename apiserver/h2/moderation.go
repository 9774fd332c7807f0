// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"net"
	"syscall"
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
	// lullBytes are so many that the kernel tells of them though the read was put off.
	lullBytes = 64 << 10
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
		m.row++
		m.on = m.row >= quickReads
	}
	if m.on {
		m.row = 0
	}
	m.last = now
	return m.on
}

// stop has the next reads not put off.
func (m *moderation) stop() { m.on = false }

// socket reads from a connection to the kernel.
type socket struct {
	nc net.Conn
	// raw is nil where reads can't be put off.
	raw syscall.RawConn
	// patient is set while the kernel does not tell of less than lullBytes.
	patient bool
}

func newSocket(nc net.Conn) socket {
	s := socket{nc: nc}
	if c, ok := nc.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	return s
}

// read waits for a lull if it is put off, then for bytes if none have come.
func (s *socket) read(p []byte, m *moderation) (int, error) {
	if s.raw == nil || (m.updates == 0 && !m.on) {
		return s.nc.Read(p)
	}
	if m.next(time.Now()) && s.setPatient(true) {
		<-time.After(lull)
		if n := s.readNow(p); n > 0 {
			return n, nil
		}
		m.stop()
	}
	s.setPatient(false)
	return s.nc.Read(p)
}

// setPatient sets from how many bytes on the kernel wakes us (SO_RCVLOWAT), and reports whether it does as it is told.
func (s *socket) setPatient(patient bool) bool {
	if s.patient == patient {
		return true
	}
	least := 1
	if patient {
		least = lullBytes
	}
	var refused error
	err := s.raw.Control(func(fd uintptr) {
		refused = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, least)
	})
	if err != nil || refused != nil {
		return false
	}
	s.patient = patient
	return true
}

// readNow reads what has come. It returns 0 for nothing, and for the end, and for errors, of which the next read tells.
func (s *socket) readNow(p []byte) (n int) {
	err := s.raw.Read(func(fd uintptr) bool {
		n, _ = syscall.Read(int(fd), p) // As above.
		return true
	})
	if err != nil {
		return 0
	}
	return max(n, 0)
}
