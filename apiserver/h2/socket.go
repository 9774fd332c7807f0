// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// socket reads and writes a TCP connection as package net does, but does not tell the scheduler of its system calls: they never block, so it has nothing to do
// meanwhile, and telling it wakes the monitor thread of Go's runtime where the process was at rest (docs/adr/0006-http2.md).
// And reads can be put off. There may be one Read and one Write at a time, as TLS sees to.
type socket struct {
	net.Conn
	raw syscall.RawConn
	// in and out are what is under way, receive and send try it once: they are for raw.
	in, out       transfer
	receive, send func(fd uintptr) (done bool)

	// mu is held while reads are put off or not, quiet set while they are, until calm fires.
	mu    sync.Mutex
	quiet bool
	calm  *time.Timer
}

// newSocket returns nil for connections that are not the kernel's.
func newSocket(nc net.Conn) *socket {
	conn, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{Conn: nc, raw: raw}
	s.receive = func(fd uintptr) bool { return s.in.try(syscall.SYS_READ, fd) }
	s.send = func(fd uintptr) bool {
		for s.out.try(syscall.SYS_WRITE, fd) {
			if len(s.out.rest) == 0 || s.out.err != 0 {
				return true
			}
		}
		return false
	}
	return s
}

// transfer is what one Read or Write does.
type transfer struct {
	rest []byte
	n    int
	err  syscall.Errno
}

// try makes a system call of a socket that does not block. False means that it would have.
func (t *transfer) try(call, fd uintptr) bool {
	for {
		n, _, err := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.rest))), uintptr(len(t.rest)))
		switch err {
		case 0:
			t.n, t.rest = t.n+int(n), t.rest[n:]
			return true
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
		default:
			t.err = err
			return true
		}
	}
}

// take ends a transfer. It returns how many bytes it was, and what the kernel said instead.
func (t *transfer) take() (int, syscall.Errno) {
	n, err := t.n, t.err
	*t = transfer{}
	return n, err
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.in.rest = p
	err := s.raw.Read(s.receive)
	n, refused := s.in.take()
	if err == nil && refused == 0 && n == 0 {
		return 0, io.EOF
	}
	return n, s.failed("read", err, refused)
}

// Write implements net.Conn.
func (s *socket) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.out.rest = p
	err := s.raw.Write(s.send)
	n, refused := s.out.take()
	return n, s.failed("write", err, refused)
}

// failed is what package net says of an operation, of which raw or the kernel said that it failed; nil if neither did.
func (s *socket) failed(op string, raw error, refused syscall.Errno) error {
	if refused != 0 {
		raw = os.NewSyscallError(op, refused)
	} else if raw == nil {
		return nil
	}
	if err, ok := errors.AsType[*net.OpError](raw); ok { // It says raw-read and raw-write.
		raw = err.Err
	}
	return &net.OpError{Op: op, Net: s.LocalAddr().Network(), Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: raw}
}

// much is so many bytes that the kernel tells of them though reads are put off.
const much = 16 << 10

// putOff has no Read woken for a time, unless much has come, or the end. Where reads are put off already it is for no longer than that.
func (s *socket) putOff(t time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.quiet || !s.wakeFrom(much):
		return
	case s.calm == nil:
		s.calm = time.AfterFunc(t, s.resume)
	default:
		s.calm.Reset(t)
	}
	s.quiet = true
}

// resume has reads woken as they are by themselves, at once if something has come meanwhile.
func (s *socket) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet = false
	s.wakeFrom(1)
}

// wakeFrom sets from how many bytes on the kernel wakes readers (SO_RCVLOWAT, socket(7)), and reports whether it does as it is told.
func (s *socket) wakeFrom(least int32) bool {
	var refused syscall.Errno
	err := s.raw.Control(func(fd uintptr) {
		_, _, refused = syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, uintptr(unsafe.Pointer(&least)), unsafe.Sizeof(least), 0)
	})
	return err == nil && refused == 0
}
