// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"net"
	"sync"
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
	if c.socket = newSocket(nc); c.socket != nil {
		c.Conn = c.socket
	}
	return c, nil
}

// cork is a connection below TLS that can collect what is written: TLS writes each of its records of 16 KiB by itself, which is a system call, and
// a wake-up of the reader, too many for a connection that has more to send.
type cork struct {
	net.Conn
	// socket is Conn; nil where that is none.
	socket  *socket
	buffers *buffers

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
