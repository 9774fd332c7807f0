// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package residency

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"
)

func TestRoomForWhatLives(t *testing.T) {
	p := pacer{room: 256 << 20}
	for live, want := range map[int64]int{0: 400, 20 << 20: 400, 64 << 20: 400, 100 << 20: 250, 128 << 20: 200, 200 << 20: 125, 256 << 20: 100, 4 << 30: 100} {
		if got := p.percent(live); got != want {
			t.Errorf("percent(%d MiB) = %d, want %d", live>>20, got, want)
		}
	}
}

// TestPaceFollowsCollections from the usual percentage to one with room and back, when it is quiet and at the end.
func TestPaceFollowsCollections(t *testing.T) {
	set := make(chan int)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	p := pacer{room: 1 << 40, spare: 1 << 40, quiet: time.Minute, until: new(atomic.Int64), set: func(percent int) { set <- percent }}
	go func() {
		defer close(ended)
		p.run(ctx)
	}()
	next := func() int {
		for {
			runtime.GC()
			select {
			case percent := <-set:
				return percent
			default:
				runtime.Gosched()
			}
		}
	}
	if got := next(); got != 100*most {
		t.Errorf("percentage while collections follow each other = %d, want %d", got, 100*most)
	}
	p.until.Store(math.MaxInt64)
	if got := next(); got != tight {
		t.Errorf("percentage of a dense heap = %d, want %d", got, tight)
	}
	p.until.Store(0)
	if got := next(); got != 100*most {
		t.Errorf("percentage when the heap need not be dense any more = %d, want %d", got, 100*most)
	}
	cancel()
	if got := <-set; got != usual {
		t.Errorf("percentage at the end = %d, want %d", got, usual)
	}
	<-ended
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	p.quiet = 100 * time.Millisecond
	go p.run(ctx)
	if got := next(); got != 100*most {
		t.Errorf("percentage while collections follow each other = %d, want %d", got, 100*most)
	}
	if got := <-set; got != usual {
		t.Errorf("percentage when it is quiet = %d, want %d", got, usual)
	}
}

// TestWhatALoadLeftIsGivenBack when no collection is urgent, and only while it is much.
func TestWhatALoadLeftIsGivenBack(t *testing.T) {
	given := make(chan struct{}, 8)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	p := pacer{spare: 64 << 20, until: new(atomic.Int64), quiet: time.Nanosecond, set: func(int) {}, giveBack: func() {
		debug.FreeOSMemory()
		given <- struct{}{}
	}}
	go func() {
		defer close(ended)
		p.run(ctx)
	}()
	load := make([]byte, 256<<20)
	clear(load)
	runtime.KeepAlive(load)
	for len(given) == 0 {
		runtime.GC()
		runtime.Gosched()
	}
	for range 4 {
		runtime.GC()
	}
	cancel()
	<-ended
	if n := len(given); n != 1 {
		t.Errorf("given back %d times, want once", n)
	}
	if _, free := heap(); free > 64<<20 {
		t.Errorf("%d bytes are free and were not given back", free)
	}
}
