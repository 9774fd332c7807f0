// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"sync"
	"time"
)

// Back-off of a key whose reconcile fails: doubled per failure.
const (
	firstDelay = 5 * time.Millisecond
	lastDelay  = 5 * time.Minute
)

// queue hands every key to at most one worker at a time.
//
//	add ─▶ waiting ─▶ worker (running) ─▶ done
//	          ▲            │ added meanwhile: again
//	addAfter ─┴─ timer     └──────────────▶ waiting
type queue struct {
	wake chan struct{} // capacity 1: there may be waiting keys

	mu       sync.Mutex
	waiting  []Key
	queued   map[Key]bool // in waiting
	running  map[Key]bool // value: added again meanwhile
	timers   map[Key]*delayed
	failures map[Key]int
	closed   bool
	observer *observer
}

// delayed is a wish for later.
type delayed struct {
	at    time.Time
	timer *time.Timer
}

func newQueue() *queue {
	return &queue{
		wake: make(chan struct{}, 1), queued: map[Key]bool{}, running: map[Key]bool{},
		timers: map[Key]*delayed{}, failures: map[Key]int{},
	}
}

func (q *queue) add(key Key) {
	q.mu.Lock()
	q.addLocked(key)
	q.mu.Unlock()
}

func (q *queue) addLocked(key Key) {
	if q.closed || q.queued[key] {
		return
	}
	if _, busy := q.running[key]; busy {
		q.running[key] = true
		return
	}
	q.queued[key] = true
	q.waiting = append(q.waiting, key)
	q.observer.added(key)
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) addAfter(key Key, d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if d <= 0 {
		q.addLocked(key)
		return
	}
	at := time.Now().Add(d)
	if known := q.timers[key]; known != nil {
		if !at.Before(known.at) {
			return
		}
		known.timer.Stop()
	}
	if q.closed {
		return
	}
	entry := &delayed{at: at}
	entry.timer = time.AfterFunc(d, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.timers[key] == entry {
			delete(q.timers, key)
			q.addLocked(key)
		}
	})
	q.timers[key] = entry
}

// retry notes a failure and enqueues the key after its back-off.
func (q *queue) retry(key Key) (attempt int, delay time.Duration) {
	q.mu.Lock()
	q.failures[key]++
	attempt = q.failures[key]
	q.observer.failed()
	q.mu.Unlock()
	delay = lastDelay
	if shift := attempt - 1; shift < 20 {
		delay = min(firstDelay<<shift, lastDelay)
	}
	q.addAfter(key, delay)
	return attempt, delay
}

func (q *queue) forget(key Key) {
	q.mu.Lock()
	delete(q.failures, key)
	q.mu.Unlock()
}

// run hands keys to workers until ctx ends.
func (q *queue) run(ctx context.Context, workers int, work func(context.Context, Key)) error {
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				key, ok := q.next()
				if ok {
					began := time.Now()
					work(ctx, key)
					q.finish(key, began)
					if ctx.Err() != nil {
						return
					}
					continue
				}
				select {
				case <-ctx.Done():
					return
				case <-q.wake:
				}
			}
		})
	}
	wg.Wait()
	q.close()
	return nil
}

// next takes a waiting key, and passes the wake-up on when more wait.
func (q *queue) next() (Key, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return Key{}, false
	}
	key := q.waiting[0]
	q.waiting = q.waiting[1:]
	delete(q.queued, key)
	q.observer.taken(key)
	q.running[key] = false
	if len(q.waiting) > 0 {
		q.signal()
	}
	return key, true
}

func (q *queue) finish(key Key, began time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.observer.done(began)
	again := q.running[key]
	delete(q.running, key)
	if again {
		q.addLocked(key)
	}
}

// close stops the timers; later wishes are dropped.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for key, entry := range q.timers {
		entry.timer.Stop()
		delete(q.timers, key)
	}
}
