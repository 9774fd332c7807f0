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
	return &cork{Conn: nc, socket: newSocket(nc), buffers: l.buffers}, nil
}

// cork is a connection below TLS that can collect what is written: TLS writes each of its records of 16 KiB by itself, which is a system call, and
// a wake-up of the reader, too many for a connection that has more to send. And it can put off reads.
type cork struct {
	net.Conn
	buffers *buffers
	socket  socket // what Conn reads from
	// moderation belongs to the goroutine that reads.
	moderation moderation

	// mu is held while the connection is written to: records must stay in order.
	mu      sync.Mutex
	holding bool
	held    []byte
}

// Read implements net.Conn.
func (c *cork) Read(p []byte) (int, error) { return c.socket.read(p, &c.moderation) }

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
