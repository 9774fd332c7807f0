// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"context"
	"runtime/pprof"
	"slices"
	"sync"
	"time"
)

// sweepEvery is how often workers end that nobody needed since the last time: an idle one waits for less than twice as long.
const sweepEvery = 3 * time.Second

// workers run handlers and pushes, on goroutines that are used again: a new one begins with a stack of 2 KB, which grows by being moved, several times in
// most requests; that of a worker has grown already. There are as many as run at a time, which the streams and connections bound, and for some seconds more.
//
// The zero value is ready for use.
type workers struct {
	// mu is taken under conn.mu.
	mu sync.Mutex
	// conns are the connections there are. Without one no worker is idle.
	conns int
	// idle workers wait for a task. The last one is taken next, so that those that nobody needs come to be the first ones.
	idle []chan task
	// unneeded is how many of idle, from the first, have been idle since the last sweep.
	unneeded int
	// next sweep; nil while nobody is idle.
	next *time.Timer
}

// task is what a worker does next.
type task interface{ do() }

// join is for a connection that begins.
func (ws *workers) join() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.conns++
}

// leave is for a connection whose handlers have all ended.
func (ws *workers) leave() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.conns--; ws.conns == 0 {
		ws.endLocked(len(ws.idle))
	}
}

// run has a worker do a task. It does not block.
func (ws *workers) run(t task) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	last := len(ws.idle) - 1
	if last < 0 {
		go ws.work(t)
		return
	}
	ws.idle[last] <- t // There is room: an idle worker has no other task.
	ws.idle = ws.idle[:last]
	ws.unneeded = min(ws.unneeded, last)
}

// work is a worker's goroutine. A handler may end it (runtime.Goexit).
func (ws *workers) work(t task) {
	tasks := make(chan task, 1)
	for ok := true; ok; t, ok = <-tasks {
		pprof.SetGoroutineLabels(context.Background()) // What a handler has set is not for the next one.
		t.do()
		if !ws.rest(tasks) {
			return
		}
	}
}

// rest makes a worker idle, which gets its next task by the channel, or finds it closed. False means that it is to end now.
func (ws *workers) rest(tasks chan task) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.conns == 0 {
		return false
	}
	ws.idle = append(ws.idle, tasks)
	if ws.next == nil {
		ws.next = time.AfterFunc(sweepEvery, ws.sweep)
	}
	return true
}

// sweep ends the workers that nobody needed since the last one.
func (ws *workers) sweep() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.endLocked(ws.unneeded)
	ws.unneeded = len(ws.idle)
	if len(ws.idle) > 0 {
		ws.next.Reset(sweepEvery)
	} else {
		ws.next = nil
	}
}

// endLocked ends the first n of idle.
func (ws *workers) endLocked(n int) {
	for _, tasks := range ws.idle[:n] {
		close(tasks)
	}
	ws.idle = slices.Delete(ws.idle, 0, n)
	ws.unneeded = 0
}
