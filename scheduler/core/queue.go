// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"container/heap"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// QueueConfig sets the times of a queue; zero values mean upstream's.
type QueueConfig struct {
	// FirstBackoff and LastBackoff bound the wait of a pod after a failed attempt; it doubles in between. 1 s and 10 s.
	FirstBackoff, LastBackoff time.Duration
	// Stale is after how long a pod is tried again although nothing happened that is known to help. 5 minutes.
	Stale time.Duration
}

// place is where a pod of the queue is.
type place int

// A pod is in one place:
//
//	         Add                     Pop
//	(new) --------> active ---------------------> popped --Done--> (gone)
//	  |               ^  ^                           |
//	  | gate closed   |  | time                      | Failed
//	  v      opens    |  '----- backoff <---.        v
//	gated ------------'            ^         '-- unschedulable
//	                               |   Moved: a change may help
//	                               '-- Retry: the attempt broke
const (
	placeActive place = iota
	placeBackoff
	placeUnschedulable
	placeGated
	placePopped
)

// Queued is a pod in the queue.
type Queued struct {
	*Pod
	Profile *Profile
	// Attempts counts how often the pod was popped.
	Attempts int
	// Added is when the pod came into the queue for the first time.
	Added time.Time

	place    place
	index    int       // in the heap of its place
	since    time.Time // orders pods of one priority: when the pod was last made active
	ready    time.Time // when backoff ends
	failures int       // refusals and errors so far, for the backoff
	broken   bool      // the last attempt broke: its backoff is not cut short
	tried    time.Time // when the last attempt ended
	rejected []string  // plugins that refused the pod in the last attempt
}

// Queue holds the pods that have no node. Time is what callers say it is.
type Queue struct {
	config  QueueConfig
	pods    map[types.UID]*Queued
	active  podHeap
	backoff podHeap
	// waiting are the unschedulable ones.
	waiting map[types.UID]*Queued
	// stale is no later than when the first of waiting becomes stale; zero when there was none since.
	stale time.Time
}

// NewQueue makes an empty queue.
func NewQueue(config QueueConfig) *Queue {
	if config.FirstBackoff == 0 {
		config.FirstBackoff = time.Second
	}
	if config.LastBackoff == 0 {
		config.LastBackoff = 10 * time.Second
	}
	if config.Stale == 0 {
		config.Stale = 5 * time.Minute
	}
	return &Queue{
		config: config, pods: map[types.UID]*Queued{}, waiting: map[types.UID]*Queued{},
		active: podHeap{less: morePressing}, backoff: podHeap{less: func(a, b *Queued) bool { return a.ready.Before(b.ready) }},
	}
}

// morePressing orders by priority, then by how long a pod waits.
func morePressing(a, b *Queued) bool {
	if a.Priority != b.Priority {
		return a.Priority > b.Priority
	}
	if !a.since.Equal(b.since) {
		return a.since.Before(b.since)
	}
	return strings.Compare(string(a.UID), string(b.UID)) < 0
}

// Put takes in a pod, new or changed.
func (q *Queue) Put(pod *Pod, profile *Profile, now time.Time) {
	known := q.pods[pod.UID]
	if known == nil {
		known = &Queued{Pod: pod, Profile: profile, Added: now, place: placePopped, index: -1}
		q.pods[pod.UID] = known
		q.enter(known, now)
		return
	}
	old := known.Pod
	known.Pod, known.Profile = pod, profile
	switch known.place {
	case placeActive:
		heap.Fix(&q.active, known.index)
	case placeGated:
		q.enter(known, now)
	case placeUnschedulable:
		if specChanged(old, pod) {
			q.wake(known, now)
		}
	case placeBackoff, placePopped:
	}
}

// enter puts a pod where it may be popped, unless a gate holds it.
func (q *Queue) enter(p *Queued, now time.Time) {
	for _, gate := range p.Profile.Gates {
		if gate.Admit(p.Pod) != nil {
			p.place = placeGated
			return
		}
	}
	q.activate(p, now)
}

func (q *Queue) activate(p *Queued, now time.Time) {
	p.place, p.since = placeActive, now
	heap.Push(&q.active, p)
}

// Drop forgets a pod that is gone, has a node, or is being deleted.
func (q *Queue) Drop(uid types.UID) {
	p := q.pods[uid]
	if p == nil {
		return
	}
	delete(q.pods, uid)
	switch p.place {
	case placeActive:
		heap.Remove(&q.active, p.index)
	case placeBackoff:
		heap.Remove(&q.backoff, p.index)
	case placeUnschedulable:
		delete(q.waiting, uid)
	case placeGated, placePopped:
	}
}

// Has reports whether a pod is in the queue, popped ones included.
func (q *Queue) Has(uid types.UID) bool { return q.pods[uid] != nil }

// Pop returns the pod to try next, or nil. When nobody is active, it takes one from backoff early, because an idle scheduler
// has nothing better to do; not those whose attempt broke. The pod stays popped until Drop, Failed or Retry.
func (q *Queue) Pop(now time.Time) *Queued {
	q.flush(now)
	var p *Queued
	switch {
	case q.active.Len() > 0:
		p = heap.Pop(&q.active).(*Queued)
	default:
		i := slices.IndexFunc(q.backoff.pods, func(p *Queued) bool { return !p.broken })
		if i < 0 {
			return nil
		}
		p = heap.Remove(&q.backoff, i).(*Queued)
	}
	p.place = placePopped
	p.Attempts++
	return p
}

// Failed takes back a popped pod that plugins refused; it waits for a change that one of them says may help.
func (q *Queue) Failed(uid types.UID, plugins []string, now time.Time) {
	p := q.pods[uid]
	if p == nil || p.place != placePopped {
		return
	}
	p.rejected, p.tried, p.broken = plugins, now, false
	p.failures++
	p.place = placeUnschedulable
	q.waiting[uid] = p
	if at := now.Add(q.config.Stale); q.stale.IsZero() || at.Before(q.stale) {
		q.stale = at
	}
}

// Retry takes back a popped pod whose attempt broke; it is tried again after backoff.
func (q *Queue) Retry(uid types.UID, now time.Time) {
	p := q.pods[uid]
	if p == nil || p.place != placePopped {
		return
	}
	p.tried, p.broken = now, true
	p.failures++
	q.wake(p, now)
}

// Reconsider wakes an unschedulable pod for a reason that is no event.
func (q *Queue) Reconsider(uid types.UID, now time.Time) {
	if p := q.pods[uid]; p != nil && p.place == placeUnschedulable {
		q.wake(p, now)
	}
}

// wake ends a pod's waiting: through backoff if that is not over.
func (q *Queue) wake(p *Queued, now time.Time) {
	delete(q.waiting, p.UID)
	p.ready = p.tried.Add(q.backoffOf(p))
	if p.ready.After(now) {
		p.place = placeBackoff
		heap.Push(&q.backoff, p)
		return
	}
	q.activate(p, now)
}

func (q *Queue) backoffOf(p *Queued) time.Duration {
	d := q.config.FirstBackoff
	for i := 1; i < p.failures; i++ {
		d *= 2
		if d >= q.config.LastBackoff {
			return q.config.LastBackoff
		}
	}
	return min(d, q.config.LastBackoff)
}

// Moved wakes the pods that a change may help.
func (q *Queue) Moved(e Event, now time.Time) {
	var woken []*Queued
	for _, p := range q.waiting {
		if helps(p, e) {
			woken = append(woken, p)
		}
	}
	slices.SortFunc(woken, func(a, b *Queued) int { return strings.Compare(string(a.UID), string(b.UID)) })
	for _, p := range woken {
		q.wake(p, now)
	}
}

// helps asks the plugins that refused the pod.
func helps(p *Queued, e Event) bool {
	for _, name := range p.rejected {
		if name == unschedulable {
			if e.Kind == Nodes && e.Action&Add != 0 {
				return true
			}
			continue
		}
		i := slices.IndexFunc(p.Profile.Wakers, func(w Waker) bool { return w.Name() == name })
		if i < 0 {
			return true // nothing known: any change may help
		}
		for _, hint := range p.Profile.Wakers[i].Hints() {
			if hint.Kind == e.Kind && hint.Actions&e.Action != 0 && (hint.Wakes == nil || hint.Wakes(p.Pod, e)) {
				return true
			}
		}
	}
	return false
}

// flush makes those active whose backoff is over, and tries stale ones again.
func (q *Queue) flush(now time.Time) {
	for q.backoff.Len() > 0 && !q.backoff.pods[0].ready.After(now) {
		q.activate(heap.Pop(&q.backoff).(*Queued), now)
	}
	if q.stale.IsZero() || now.Before(q.stale) {
		return
	}
	q.stale = time.Time{}
	for uid, p := range q.waiting {
		at := p.tried.Add(q.config.Stale)
		switch {
		case !at.After(now):
			delete(q.waiting, uid)
			q.activate(p, now)
		case q.stale.IsZero() || at.Before(q.stale):
			q.stale = at
		}
	}
}

// Next returns when Pop may have something to return that it has not now; zero when only an event can bring that.
func (q *Queue) Next() time.Time {
	next := q.stale
	if len(q.waiting) == 0 {
		next = time.Time{}
	}
	if q.backoff.Len() > 0 && (next.IsZero() || q.backoff.pods[0].ready.Before(next)) {
		next = q.backoff.pods[0].ready
	}
	return next
}

// Counts tells how many pods wait where.
type Counts struct{ Active, Backoff, Unschedulable, Gated int }

// Counts returns the lengths of the queue's parts.
func (q *Queue) Counts() Counts {
	var c Counts
	for _, p := range q.pods {
		switch p.place {
		case placeActive:
			c.Active++
		case placeBackoff:
			c.Backoff++
		case placeUnschedulable:
			c.Unschedulable++
		case placeGated:
			c.Gated++
		case placePopped:
		}
	}
	return c
}

// podHeap implements heap.Interface and keeps each pod's index.
type podHeap struct {
	pods []*Queued
	less func(a, b *Queued) bool
}

func (h *podHeap) Len() int           { return len(h.pods) }
func (h *podHeap) Less(i, j int) bool { return h.less(h.pods[i], h.pods[j]) }

func (h *podHeap) Swap(i, j int) {
	h.pods[i], h.pods[j] = h.pods[j], h.pods[i]
	h.pods[i].index, h.pods[j].index = i, j
}

// Push implements heap.Interface.
func (h *podHeap) Push(x any) {
	p := x.(*Queued)
	p.index = len(h.pods)
	h.pods = append(h.pods, p)
}

// Pop implements heap.Interface.
func (h *podHeap) Pop() any {
	last := len(h.pods) - 1
	p := h.pods[last]
	h.pods[last] = nil
	h.pods = h.pods[:last]
	p.index = -1
	return p
}
