// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"net"
	"sync"
	"syscall"
	"time"
)

// Listen returns a listener whose connections are corked. It belongs below TLS.
func Listen(l net.Listener) net.Listener { return corkListener{l, &buffers{}} }

type corkListener struct {
	net.Listener
	buffers *buffers
}

// Accept implements net.Listener.
func (l corkListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &cork{Conn: nc, buffers: l.buffers}
	if s, ok := nc.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	return c, nil
}

// cork is a connection below TLS that can collect what is written: TLS writes each of its records of 16 KiB by itself, which is a system call, and
// a wake-up of the reader, too many for a connection that has more to send. And it can put off reads.
type cork struct {
	net.Conn
	buffers *buffers

	// The goroutine that reads has these. raw is nil where reads can't be put off, patient set while the kernel does not tell of less than lullBytes.
	raw        syscall.RawConn
	patient    bool
	moderation moderation

	// mu is held while the connection is written to: records must stay in order.
	mu      sync.Mutex
	holding bool
	held    []byte
}

// lullBytes are so many that the kernel tells of them though the read was put off.
const lullBytes = 64 << 10

// Read implements net.Conn. It waits for a lull if it is put off, then for bytes if none have come.
func (c *cork) Read(p []byte) (int, error) {
	m := &c.moderation
	if c.raw == nil || (m.updates == 0 && !m.on) {
		return c.Conn.Read(p)
	}
	if m.next(time.Now()) && c.setPatient(true) {
		<-time.After(lull)
		if n := c.readNow(p); n > 0 {
			return n, nil
		}
		m.on = false
	}
	c.setPatient(false)
	return c.Conn.Read(p)
}

// setPatient sets from how many bytes on the kernel wakes us (SO_RCVLOWAT, socket(7)), and reports whether it does as it is told.
func (c *cork) setPatient(patient bool) bool {
	if c.patient == patient {
		return true
	}
	least := 1
	if patient {
		least = lullBytes
	}
	var refused error
	err := c.raw.Control(func(fd uintptr) {
		refused = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, least)
	})
	if err != nil || refused != nil {
		return false
	}
	c.patient = patient
	return true
}

// readNow reads what has come. It returns 0 for nothing, and for the end, and for errors, of which the next read tells.
func (c *cork) readNow(p []byte) (n int) {
	err := c.raw.Read(func(fd uintptr) bool {
		n, _ = syscall.Read(int(fd), p) // As above.
		return true
	})
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// hold collects what is written until release.
func (c *cork) hold() {
	c.mu.Lock()
	c.holding, c.held = true, c.buffers.get()
	c.mu.Unlock()
}

// Write implements net.Conn.
func (c *cork) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.holding {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

// release writes what was collected.
func (c *cork) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.Conn.Write(c.held)
	c.buffers.put(c.held)
	c.holding, c.held = false, nil
	return err
}
