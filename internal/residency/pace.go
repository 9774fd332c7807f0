// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package residency

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
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

// quiet is the time without a collection after which none is urgent.
const quiet = 10 * time.Second

// Pace lets the heap grow further between two collections while much is allocated, until ctx ends. A collection costs what lives, and by itself
// the runtime collects when as much again was allocated: with little alive that is many times a second, when a client writes. Idle,
// the process has no more memory than by itself. Who sets GOGC has what it says.
func Pace(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	p := pacer{room: room, quiet: quiet, set: func(percent int) { debug.SetGCPercent(percent) }}
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err == nil {
		p.room = min(p.room, int64(info.Totalram)*int64(info.Unit)/16)
	}
	p.run(ctx)
}

// usual is the runtime's own percentage.
const usual = 100

type pacer struct {
	room  int64
	quiet time.Duration
	set   func(percent int)
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
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	var last time.Time
	await(collected)
	for {
		select {
		case <-ctx.Done():
			return
		case <-calm.C:
			choose(usual)
		case <-collected:
			await(collected)
			now := time.Now()
			if now.Sub(last) < p.quiet {
				metrics.Read(live)
				choose(p.percent(int64(live[0].Value.Uint64())))
				calm.Reset(p.quiet)
			}
			last = now
		}
	}
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
