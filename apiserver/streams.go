// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import "sync"

// streams counts the goroutines that answer requests of this process. The zero value has none.
type streams struct {
	mu     sync.Mutex
	group  sync.WaitGroup
	closed bool
}

// begin announces one, which calls end when it is done. False means that no more may begin.
func (s *streams) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.group.Add(1)
	return true
}

func (s *streams) end() { s.group.Done() }

// close lets no more begin, and waits for those that did.
func (s *streams) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.group.Wait()
}
