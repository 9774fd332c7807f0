// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package queues is the core of API priority and fairness (KEP-1040): the seats and queues of one priority level. It has no
// goroutines, locks or clock: requests come in with the time, decisions go out.
//
//	request ── flow ── hand of queues ── shortest of the hand ─┐
//	                                                           ├─ queue with the smallest virtual finish ── seats ── executing
//	             other requests in the level's other queues  ──┘
//
// A level's seats are shared by its queues as a processor is by processes: each queue with work is owed an equal share. The virtual
// time of the level is what every queue with work has been owed so far, in seat-seconds; a queue's own virtual time is what its requests
// have taken. The queue that lags most is served next.
package queues

import (
	"slices"
	"time"
)

// Guess is how long a request is taken to execute until it has; what it really took is put right when it leaves.
const Guess = 3 * time.Millisecond

// Shape of a level's queues. The zero value has none: what finds no seat is refused.
type Shape struct {
	// Queues is how many there are, HandSize how many of them a flow may use, and Length how many requests may wait in each.
	Queues, HandSize, Length int
}

// Outcome of an arrival.
type Outcome int

// What can become of a request that arrives.
const (
	// Execute: it has its seats; Leave must follow.
	Execute Outcome = iota
	// Wait: it is in a queue; it is returned by another call when it may execute, or Cancel must follow.
	Wait
	// NoSeat: the level has no queues and no seat left.
	NoSeat
	// QueueFull: the queue that it belongs to is full.
	QueueFull
)

// Ticket is one request at a level. Flow and Seats are set by the caller before it arrives.
type Ticket struct {
	// Flow is a hash of what the request must share its fate with.
	Flow uint64
	// Seats that the request takes while it executes; less than one counts as one.
	Seats int

	queue   *queue
	started time.Time
}

type queue struct {
	// taken is the queue's virtual time: where the level's would be if only this queue's past requests had been served.
	taken     float64
	waiting   []*Ticket
	executing int
	// work is the seats of everything in the queue, waiting or executing.
	work int
}

func (q *queue) active() bool { return len(q.waiting) > 0 || q.executing > 0 }

// Level is one priority level.
type Level struct {
	shape Shape
	seats int

	queues []*queue
	// executing and waiting count seats, active queues with work.
	executing, waiting, active int
	// virtual time and when it was last moved.
	virtual float64
	moved   time.Time
	// turn is the queue served last: ties go round.
	turn   int
	demand demand
}

// NewLevel makes an idle level.
func NewLevel(shape Shape, seats int, now time.Time) *Level {
	l := &Level{moved: now}
	l.demand.began, l.demand.since = now, now
	l.Configure(now, shape, seats)
	return l
}

// Configure changes a level in use and returns the requests that may now execute. Queues that are not dealt any more are emptied first.
func (l *Level) Configure(now time.Time, shape Shape, seats int) []*Ticket {
	l.move(now)
	l.shape, l.seats = shape, max(seats, 1)
	for len(l.queues) < shape.Queues {
		l.queues = append(l.queues, &queue{})
	}
	for len(l.queues) > shape.Queues && !l.queues[len(l.queues)-1].active() {
		l.queues = l.queues[:len(l.queues)-1]
	}
	return l.dispatch(now)
}

// Seats is how many seats the level has now.
func (l *Level) Seats() int { return l.seats }

// QueueState is what a queue holds.
type QueueState struct {
	// Waiting requests in their order, and how many execute, with how many seats.
	Waiting          []*Ticket
	Executing, Seats int
	// Next is the queue's virtual time, in seat-seconds, at which its next request starts.
	Next float64
}

// Queues shows the level's queues. The tickets are the level's own.
func (l *Level) Queues() []QueueState {
	out := make([]QueueState, 0, len(l.queues))
	for _, q := range l.queues {
		seats := q.work
		for _, t := range q.waiting {
			seats -= t.Seats
		}
		out = append(out, QueueState{Waiting: q.waiting, Executing: q.executing, Seats: seats, Next: q.taken})
	}
	return out
}

// QueueOf is the number of the queue that a request is or was in; -1 for one that needed none.
func (l *Level) QueueOf(t *Ticket) int { return slices.Index(l.queues, t.queue) }

// Load is how many seats are taken, and how many are waited for.
func (l *Level) Load() (executing, waiting int) { return l.executing, l.waiting }

// Arrive takes a request in.
func (l *Level) Arrive(now time.Time, t *Ticket) Outcome {
	l.move(now)
	t.Seats = max(t.Seats, 1)
	if l.shape.Queues == 0 {
		if !l.fits(t) {
			return NoSeat
		}
		l.start(now, t)
		return Execute
	}
	q := l.shortest(t.Flow)
	if len(q.waiting) >= l.shape.Length && !l.fits(t) {
		return QueueFull
	}
	if !q.active() {
		l.active++
	}
	if len(q.waiting) == 0 {
		// What a queue did not ask for it can't ask for later.
		q.taken = max(q.taken, l.virtual)
	}
	t.queue = q
	q.waiting = append(q.waiting, t)
	q.work += t.Seats
	l.waiting += t.Seats
	l.watch(now)
	// Only t itself can be served: whoever waited before still finds no seat, or would not have waited.
	if slices.Contains(l.dispatch(now), t) {
		return Execute
	}
	return Wait
}

// Leave ends an executing request and returns those that may now execute.
func (l *Level) Leave(now time.Time, t *Ticket) []*Ticket {
	l.move(now)
	l.executing -= t.Seats
	if q := t.queue; q != nil {
		q.executing--
		q.work -= t.Seats
		q.taken += float64(t.Seats) * (now.Sub(t.started) - Guess).Seconds()
		l.rest(q)
	}
	l.watch(now)
	return l.dispatch(now)
}

// Cancel takes a waiting request out of its queue and returns those that may now execute. false: it does not wait (any more).
func (l *Level) Cancel(now time.Time, t *Ticket) ([]*Ticket, bool) {
	l.move(now)
	q := t.queue
	if q == nil {
		return nil, false
	}
	i := slices.Index(q.waiting, t)
	if i < 0 {
		return nil, false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	q.work -= t.Seats
	l.waiting -= t.Seats
	l.rest(q)
	l.watch(now)
	return l.dispatch(now), true
}

// rest notes that a queue may have no work any more.
func (l *Level) rest(q *queue) {
	if !q.active() {
		l.active--
	}
}

// move brings the virtual time up to now.
func (l *Level) move(now time.Time) {
	if l.active > 0 {
		served := min(l.executing+l.waiting, l.seats)
		l.virtual += now.Sub(l.moved).Seconds() * float64(served) / float64(l.active)
	}
	l.moved = now
}

func (l *Level) watch(now time.Time) { l.demand.set(now, l.executing+l.waiting) }

// fits tells whether there are seats for a request. One that is wider than the level executes alone.
func (l *Level) fits(t *Ticket) bool { return l.executing == 0 || l.executing+t.Seats <= l.seats }

func (l *Level) start(now time.Time, t *Ticket) {
	t.started = now
	l.executing += t.Seats
	l.watch(now)
}

// dispatch starts waiting requests while there are seats. The request whose turn it is is never passed by a narrower one.
func (l *Level) dispatch(now time.Time) []*Ticket {
	var out []*Ticket
	for l.waiting > 0 {
		i := l.next()
		q := l.queues[i]
		t := q.waiting[0]
		if !l.fits(t) {
			break
		}
		l.turn = i
		q.waiting = slices.Delete(q.waiting, 0, 1)
		q.executing++
		q.taken += float64(t.Seats) * Guess.Seconds()
		l.waiting -= t.Seats
		l.start(now, t)
		out = append(out, t)
	}
	return out
}

// next is the queue whose first request would finish first in virtual time.
func (l *Level) next() int {
	best, finish := -1, 0.0
	for n := range l.queues {
		i := (l.turn + 1 + n) % len(l.queues)
		q := l.queues[i]
		if len(q.waiting) == 0 {
			continue
		}
		if f := q.taken + float64(q.waiting[0].Seats)*Guess.Seconds(); best < 0 || f < finish {
			best, finish = i, f
		}
	}
	return best
}

// shortest is the queue of the flow's hand that has the least work.
func (l *Level) shortest(flow uint64) *queue {
	var best *queue
	for _, i := range hand(flow, l.shape.Queues, l.shape.HandSize) {
		if q := l.queues[i]; best == nil || q.work < best.work {
			best = q
		}
	}
	return best
}
