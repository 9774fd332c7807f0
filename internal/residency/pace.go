// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package residency

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"syscall"
	"time"
)

// Bounds of what may be allocated between two collections while they follow each other fast.
const (
	// room is enough whatever lives; a sixteenth of the machine's memory, if that is less.
	room = 256 << 20
	// most is how many times what lives.
	most = 4
)

// Times without a collection: after quiet none is urgent, after idle little is allocated until the next one.
const (
	quiet = 10 * time.Second
	idle  = time.Minute
)

// spare is how much free heap beyond what will be allocated until the next collection is not worth giving back.
const spare = 8 << 20

// until is when the heap need not be dense any more, in nanoseconds of Unix time.
var until atomic.Int64

// Dense has the heap grow less than by itself between two collections, for the next ten seconds or until none is urgent: who makes what stays for long amid
// much that goes at once calls it each time. Each small thing that stays holds a page of whatever the heap has grown to meanwhile.
func Dense() { until.Store(time.Now().Add(quiet).UnixNano()) }

// Pace lets the heap grow further between two collections while much is allocated, until ctx ends. A collection costs what lives, and by itself
// the runtime collects when as much again was allocated: with little alive that is many times a second, when a client writes. Idle,
// the process has no more memory than by itself, and less after a load: what that left free is given back to the kernel after the next collection,
// two minutes later at most, where the runtime would take many more. Who sets GOGC has what it says.
func Pace(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	p := pacer{
		room: room, quiet: quiet, idle: idle, spare: spare, until: &until,
		set: func(percent int) { debug.SetGCPercent(percent) }, giveBack: debug.FreeOSMemory,
	}
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err == nil {
		p.room = min(p.room, int64(info.Totalram)*int64(info.Unit)/16)
	}
	p.run(ctx)
}

// Percentages: the runtime's own, and that of a dense heap.
const (
	usual = 100
	tight = 33
)

type pacer struct {
	room, spare int64
	quiet, idle time.Duration
	// until is when the heap need not be dense any more.
	until *atomic.Int64
	set   func(percent int)
	// giveBack collects, and gives all that is free back to the kernel.
	giveBack func()
}

// run sets the percentage after each collection, and sets it back after a quiet time and at the end.
func (p *pacer) run(ctx context.Context) {
	current := usual
	choose := func(percent int) {
		if percent != current { // It stops the world.
			current = percent
			p.set(percent)
		}
	}
	defer func() { choose(usual) }()
	collected := make(chan struct{}, 1)
	calm := time.NewTimer(p.quiet)
	defer calm.Stop()
	var last time.Time
	await(collected)
	rest := func(since time.Duration) {
		live, free := heap()
		if since >= p.idle {
			live = 0 // As much again will not be allocated soon.
		}
		if free > live+p.spare {
			p.giveBack()
			<-collected // That collection says nothing about a load.
			await(collected)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-calm.C:
			choose(usual)
		case <-collected:
			await(collected)
			now := time.Now()
			if since := now.Sub(last); since < p.quiet {
				choose(p.next(now))
				calm.Reset(p.quiet)
			} else {
				rest(since)
			}
			last = now
		}
	}
}

// heap tells what the last collection left alive, and what is free and was not given back, in bytes.
func heap() (live, free int64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64()), int64(samples[1].Value.Uint64())
}

// next returns the percentage until the next collection.
func (p *pacer) next(now time.Time) int {
	if now.UnixNano() < p.until.Load() {
		return tight
	}
	live, _ := heap()
	return p.percent(live)
}

// percent returns the percentage for what lives, in steps of a quarter.
func (p *pacer) percent(live int64) int {
	percent := int64(100 * most)
	if live > p.room/most {
		percent = max(100*p.room/live, usual)
	}
	return int(percent / 25 * 25)
}

// await sends to c when the next collection is over.
func await(c chan<- struct{}) {
	type mark struct{ _ [64]byte } // so large that it shares memory with nothing else
	runtime.AddCleanup(new(mark), func(c chan<- struct{}) { c <- struct{}{} }, c)
}
