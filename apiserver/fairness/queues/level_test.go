// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package queues

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var epoch = time.Unix(0, 0)

func at(d time.Duration) time.Time { return epoch.Add(d) }

func TestLevelWithoutQueuesRefusesTheOneTooMany(t *testing.T) {
	l := NewLevel(Shape{}, 2, epoch)
	first := &Ticket{}
	for i, c := range []struct {
		ticket *Ticket
		want   Outcome
	}{{first, Execute}, {&Ticket{}, Execute}, {&Ticket{}, NoSeat}} {
		if got := l.Arrive(epoch, c.ticket); got != c.want {
			t.Errorf("arrival %d: outcome %d, want %d", i, got, c.want)
		}
	}
	if started := l.Leave(epoch, first); len(started) != 0 {
		t.Errorf("%d requests started though none waited", len(started))
	}
	if got := l.Arrive(epoch, &Ticket{}); got != Execute {
		t.Errorf("arrival after a seat came free: outcome %d, want %d", got, Execute)
	}
}

func TestQueueIsBounded(t *testing.T) {
	l := NewLevel(Shape{Queues: 1, HandSize: 1, Length: 2}, 1, epoch)
	var got []Outcome
	for range 4 {
		got = append(got, l.Arrive(epoch, &Ticket{}))
	}
	if want := []Outcome{Execute, Wait, Wait, QueueFull}; !slices.Equal(got, want) {
		t.Errorf("outcomes %v, want %v", got, want)
	}
}

func TestCancelledRequestIsNotStarted(t *testing.T) {
	l := NewLevel(Shape{Queues: 1, HandSize: 1, Length: 2}, 1, epoch)
	executing, gone, next := &Ticket{}, &Ticket{}, &Ticket{}
	for _, ticket := range []*Ticket{executing, gone, next} {
		l.Arrive(epoch, ticket)
	}
	if _, ok := l.Cancel(epoch, gone); !ok {
		t.Fatal("Cancel of a waiting request said that it does not wait")
	}
	if _, ok := l.Cancel(epoch, executing); ok {
		t.Error("Cancel of an executing request said that it waited")
	}
	if started := l.Leave(at(time.Millisecond), executing); !slices.Equal(started, []*Ticket{next}) {
		t.Errorf("started %v, want the one that still waits", started)
	}
	l.Leave(at(2*time.Millisecond), next)
	if e, w := l.Load(); e != 0 || w != 0 || l.active != 0 {
		t.Errorf("idle level: %d executing, %d waiting, %d active queues", e, w, l.active)
	}
}

func TestWideRequestIsNotPassed(t *testing.T) {
	l := NewLevel(Shape{Queues: 1, HandSize: 1, Length: 10}, 4, epoch)
	first, wide, narrow := &Ticket{Seats: 2}, &Ticket{Seats: 4}, &Ticket{Seats: 1}
	if got := []Outcome{l.Arrive(epoch, first), l.Arrive(epoch, wide), l.Arrive(epoch, narrow)}; !slices.Equal(got, []Outcome{Execute, Wait, Wait}) {
		t.Fatalf("outcomes %v", got)
	}
	if started := l.Leave(epoch, first); !slices.Equal(started, []*Ticket{wide}) {
		t.Errorf("started %v, want the wide one alone", started)
	}
}

func TestRequestWiderThanTheLevelExecutesAlone(t *testing.T) {
	l := NewLevel(Shape{}, 2, epoch)
	if got := l.Arrive(epoch, &Ticket{Seats: 10}); got != Execute {
		t.Errorf("outcome %d, want %d", got, Execute)
	}
	if got := l.Arrive(epoch, &Ticket{}); got != NoSeat {
		t.Errorf("outcome beside it %d, want %d", got, NoSeat)
	}
}

// Two flows, one of which asks for ten times as much, get the same service while both wait; an elephant does not starve a mouse.
func TestFlowsShareEvenly(t *testing.T) {
	l := NewLevel(Shape{Queues: 64, HandSize: 1, Length: 1000}, 1, epoch)
	const elephant, mouse = 0, 1
	served := map[uint64]int{}
	var running *Ticket
	for range 500 {
		ticket := &Ticket{Flow: elephant}
		if l.Arrive(epoch, ticket) == Execute {
			running = ticket
		}
	}
	for range 50 {
		l.Arrive(epoch, &Ticket{Flow: mouse})
	}
	now := epoch
	for range 100 {
		now = now.Add(5 * time.Millisecond)
		started := l.Leave(now, running)
		if len(started) != 1 {
			t.Fatalf("%d started, want 1", len(started))
		}
		running = started[0]
		served[running.Flow]++
	}
	if served[mouse] < 48 {
		t.Errorf("of 100 turns the mouse got %d and the elephant %d, want half each", served[mouse], served[elephant])
	}
}

// Requests that take longer than the guess are charged for it.
func TestLongRequestsAreCharged(t *testing.T) {
	l := NewLevel(Shape{Queues: 64, HandSize: 1, Length: 1000}, 1, epoch)
	const slow, quick = 0, 1
	var running *Ticket
	for i := range 400 {
		ticket := &Ticket{Flow: uint64(i % 2)} // 0 or 1
		if l.Arrive(epoch, ticket) == Execute {
			running = ticket
		}
	}
	now, spent := epoch, map[uint64]time.Duration{}
	for range 150 {
		took := time.Millisecond
		if running.Flow == slow {
			took = 9 * time.Millisecond
		}
		now = now.Add(took)
		spent[running.Flow] += took
		running = l.Leave(now, running)[0]
	}
	if ratio := float64(spent[slow]) / float64(spent[quick]); ratio < 0.7 || ratio > 1.5 {
		t.Errorf("time spent: slow %v, quick %v; want about the same", spent[slow], spent[quick])
	}
}

// Whatever happens, seats are never exceeded but by one wide request alone, nothing waits while there are seats, and all is given back.
func TestSeatsAreKept(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0)) // Reproducible.
		l := NewLevel(Shape{Queues: 8, HandSize: 3, Length: 5}, 5, epoch)
		now := epoch
		var executing, waiting []*Ticket
		start := func(started []*Ticket) {
			for _, ticket := range started {
				waiting = slices.DeleteFunc(waiting, func(w *Ticket) bool { return w == ticket })
				executing = append(executing, ticket)
			}
		}
		check := func() {
			t.Helper()
			seats := 0
			for _, ticket := range executing {
				seats += ticket.Seats
			}
			if e, _ := l.Load(); e != seats || seats > l.Seats() && len(executing) > 1 && l.Seats() == 5 {
				t.Fatalf("seed %d: level says %d seats, %d are taken by %d requests", seed, e, seats, len(executing))
			}
			if len(executing) == 0 && len(waiting) > 0 {
				t.Fatalf("seed %d: %d requests wait for nothing", seed, len(waiting))
			}
		}
		for range 500 {
			now = now.Add(time.Duration(r.IntN(3000)) * time.Microsecond)
			switch n := r.IntN(10); {
			case n < 5:
				ticket := &Ticket{Flow: uint64(r.IntN(20)), Seats: 1 + r.IntN(7)} // Small.
				switch l.Arrive(now, ticket) {
				case Execute:
					executing = append(executing, ticket)
				case Wait:
					waiting = append(waiting, ticket)
				case NoSeat, QueueFull:
				}
			case n < 9 && len(executing) > 0:
				i := r.IntN(len(executing))
				ticket := executing[i]
				executing = slices.Delete(executing, i, i+1)
				start(l.Leave(now, ticket))
			case len(waiting) > 0:
				i := r.IntN(len(waiting))
				ticket := waiting[i]
				started, ok := l.Cancel(now, ticket)
				if !ok {
					t.Fatalf("seed %d: a waiting request does not wait", seed)
				}
				waiting = slices.Delete(waiting, i, i+1)
				start(started)
			}
			check()
		}
		for len(executing) > 0 {
			ticket := executing[0]
			executing = executing[1:]
			start(l.Leave(now, ticket))
		}
		if e, w := l.Load(); e != 0 || w != 0 || len(waiting) > 0 || l.active != 0 {
			t.Errorf("seed %d: at the end %d seats taken, %d asked for, %d active queues", seed, e, w, l.active)
		}
	}
}

func TestHandHasDistinctCards(t *testing.T) {
	seen := map[int]int{}
	for hash := range uint64(10_000) {
		h := hand(hash*0x9E3779B97F4A7C15, 16, 4)
		if slices.Sort(h); len(slices.Compact(h)) != 4 || h[0] < 0 || h[3] > 15 {
			t.Fatalf("hand of %d: %v", hash, h)
		}
		for _, card := range h {
			seen[card]++
		}
	}
	for card := range 16 {
		if n := seen[card]; n < 2300 || n > 2700 {
			t.Errorf("card %d was dealt %d times of 40,000, want about 2,500", card, n)
		}
	}
}

func TestDemandIsAveragedOverTime(t *testing.T) {
	l := NewLevel(Shape{}, 10, epoch)
	a, b := &Ticket{Seats: 4}, &Ticket{Seats: 4}
	l.Arrive(at(0), a)
	l.Arrive(at(time.Second), b)
	l.Leave(at(2*time.Second), a)
	l.Leave(at(2*time.Second), b)
	if got, want := l.Demand(at(4*time.Second)), (Demand{Peak: 8, Average: 3}); got.Peak != want.Peak || got.Average != want.Average || got.Deviation < 3.3 || got.Deviation > 3.4 {
		t.Errorf("demand %+v, want peak 8, average 3, deviation about 3.32", got)
	}
	if got := l.Demand(at(5 * time.Second)); got != (Demand{}) {
		t.Errorf("demand of an idle period: %+v", got)
	}
}

func TestDivide(t *testing.T) {
	for _, c := range []struct {
		name   string
		claims []Claim
		want   []int
	}{
		{"what nobody asks for is shared out, too", []Claim{{Min: 10, Nominal: 50, Max: 100, Peak: 5, Smooth: 5}, {Min: 10, Nominal: 50, Max: 100}}, []int{50, 50}},
		{"one borrows what the other lends", []Claim{{Min: 10, Nominal: 50, Max: 100, Peak: 90, Smooth: 90}, {Min: 10, Nominal: 50, Max: 100}}, []int{90, 10}},
		{"a bound on borrowing", []Claim{{Min: 10, Nominal: 50, Max: 60, Peak: 90, Smooth: 90}, {Min: 10, Nominal: 50, Max: 100}}, []int{60, 40}},
		{"all want more", []Claim{{Min: 10, Nominal: 50, Max: 100, Peak: 90, Smooth: 90}, {Min: 10, Nominal: 50, Max: 100, Peak: 90, Smooth: 90}}, []int{50, 50}},
		{"the exempt take theirs", []Claim{{Exempt: true, Peak: 40}, {Min: 10, Nominal: 50, Max: 100, Peak: 50, Smooth: 90}, {Min: 0, Nominal: 50, Max: 100}}, []int{0, 59, 1}},
	} {
		got := Divide(100, c.claims)
		for i := range got {
			if d := got[i] - c.want[i]; d < -1 || d > 1 {
				t.Errorf("%s: %v, want %v", c.name, got, c.want)
				break
			}
		}
	}
}
