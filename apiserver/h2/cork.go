// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"bufio"
	"net"
	"sync"
)

// Listen returns a listener whose connections read and write more at once than TLS does. It belongs below TLS.
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
	c.in.Reset(nc)
	return c, nil
}

// Read implements net.Conn.
func (c *cork) Read(p []byte) (int, error) { return c.in.Read(p) }

// cork is a connection below TLS that can collect what is written: TLS writes each of its records of 16 KiB by itself, which is a system call, and
// a wake-up of the reader, too many for a connection that has more to send. And it reads what there is, of which TLS would ask for half a KiB: window
// updates come in records of some 50 bytes.
type cork struct {
	net.Conn
	buffers *buffers
	// in is what was read and not asked for yet. It is of who reads.
	in bufio.Reader

	// mu is held while the connection is written to: records must stay in order.
	mu      sync.Mutex
	holding bool
	held    []byte
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
