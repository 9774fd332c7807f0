// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"container/heap"
	"time"
)

// expiry says when one version of a key vanishes, if it is still the present one then.
type expiry struct {
	at  time.Time
	key string
	mod int64
}

// expiries is a heap, the next one first.
type expiries []expiry

func (h expiries) Len() int           { return len(h) }
func (h expiries) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h expiries) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *expiries) Push(x any)        { *h = append(*h, x.(expiry)) }
func (h *expiries) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// expireLocked lets a version vanish after ttl. One timer serves all: it is set to the next one.
func (s *Store) expireLocked(key string, mod int64, ttl time.Duration) {
	seconds := (ttl + time.Second - 1) / time.Second
	heap.Push(&s.expiry, expiry{at: time.Now().Add(seconds * time.Second), key: key, mod: mod})
	s.setTimerLocked()
}

func (s *Store) setTimerLocked() {
	if len(s.expiry) == 0 {
		return
	}
	left := time.Until(s.expiry[0].at)
	if s.timer == nil {
		s.timer = time.AfterFunc(left, s.expire)
	} else {
		s.timer.Reset(left)
	}
}

// expire deletes what has expired.
func (s *Store) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.expiry) > 0 && !s.expiry[0].at.After(now) {
		e, _ := heap.Pop(&s.expiry).(expiry)
		if current, ok := s.currentLocked(e.key); ok && current.mod == e.mod {
			s.deleteLocked(e.key, current)
		}
	}
	s.setTimerLocked()
}
