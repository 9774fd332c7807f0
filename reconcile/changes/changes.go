// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package changes drives an engine that turns many objects into one thing: a table in the kernel, a snapshot of names.
//
//	watch handlers -> newest state per object -> one goroutine, at a measured pace -> Apply
//
// Where package reconcile calls a loop once per key, this hands over all that changed at once, so that a burst costs one application.
package changes

import (
	"context"
	"log/slog"
	"math"
	"reflect"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
)

// Back-off of an application that fails: doubled per failure.
const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = 30 * time.Second
)

// LookEvery is how often Config.Look is called.
const LookEvery = 30 * time.Second

// Config of a Queue.
type Config struct {
	// Apply makes a batch effective. It is called by one goroutine at a time. Worked says that it did more than to take note of the
	// objects, which is what Period counts from. What it took note of is not handed over again after an error, which is logged, and tried
	// again after a back-off from 100 ms to 30 s, or with the next change.
	Apply func(batch Batch) (worked bool, err error)
	// Period is the least time between the end of an application that worked and the next; 0 means none.
	Period time.Duration
	// Look is called now and then while nothing is known to be wrong, and reports whether somebody spoiled what was applied. Nil means
	// never.
	Look func() (spoiled bool)
	// Log is required.
	Log *slog.Logger
}

// Batch is what is to be applied.
type Batch struct {
	// Changes are the objects that changed since the last batch, in no order.
	Changes []Change
	// Since is when the oldest change was queued that is not effective yet; zero if there is none.
	Since time.Time
	// Whole says that what is there may be anything: at first, after a failure, and when Look found it spoiled.
	Whole bool
}

// Change is the newest state of one object.
type Change struct {
	// Object is shared: never change it. Of a deleted object it is the last known state.
	Object  kinds.Object
	Deleted bool
}

// Queue collects changes and applies them.
type Queue struct {
	config Config
	wake   chan struct{} // capacity 1: a signal that is already there is enough

	mu       sync.Mutex
	changes  map[key]Change
	since    time.Time // since when a change waits to become effective; zero when none does
	complete bool

	// Owned by Run's goroutine.
	whole bool
	delay time.Duration
}

type key struct {
	kind reflect.Type
	name types.NamespacedName
}

// New makes a queue that is not complete.
func New(config Config) *Queue {
	return &Queue{config: config, wake: make(chan struct{}, 1), changes: map[key]Change{}, whole: true}
}

// Upsert queues an object that appeared or changed. It never blocks. The object must not change afterwards.
func (q *Queue) Upsert(obj kinds.Object) { q.put(obj, false) }

// Delete queues the removal of an object. It never blocks.
func (q *Queue) Delete(obj kinds.Object) { q.put(obj, true) }

func (q *Queue) put(obj kinds.Object, deleted bool) {
	k := key{reflect.TypeOf(obj), types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}}
	q.mu.Lock()
	if q.since.IsZero() {
		q.since = time.Now()
	}
	q.changes[k] = Change{obj, deleted}
	q.mu.Unlock()
	q.signal()
}

// Complete says whether every object that exists was queued. Only then is anything applied: half of the objects would undo what an
// earlier process did about the others.
func (q *Queue) Complete(complete bool) {
	q.mu.Lock()
	q.complete = complete
	q.mu.Unlock()
	q.signal()
}

// Waiting returns since when a change waits to become effective; zero when none does.
func (q *Queue) Waiting() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.since
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Run applies what is queued until ctx ends.
func (q *Queue) Run(ctx context.Context) {
	idle := time.Duration(math.MaxInt64)
	if q.config.Look != nil {
		idle = LookEvery
	}
	var last time.Time
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		case <-timer.C:
			q.whole = q.whole || q.config.Look != nil && q.config.Look()
		}
		if pause := q.config.Period - time.Since(last); !last.IsZero() && pause > 0 {
			timer.Reset(pause)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
		worked, err := q.Apply()
		if worked {
			last = time.Now()
		}
		next := idle
		if err != nil {
			next = q.delay
			q.config.Log.Error("changes not effective", "err", err, "retry_in", next)
		}
		timer.Reset(next)
	}
}

// Apply applies what is queued now, if it is complete and there is anything to do. Run calls it; others may instead of Run, not beside.
func (q *Queue) Apply() (worked bool, err error) {
	batch, ok := q.take()
	if !ok {
		return false, nil
	}
	worked, err = q.config.Apply(batch)
	if err == nil {
		q.whole, q.delay = false, 0
		return worked, nil
	}
	q.whole = true
	q.delay = min(max(2*q.delay, firstDelay), lastDelay)
	q.mu.Lock()
	q.since = batch.Since
	if q.since.IsZero() {
		q.since = time.Now()
	}
	q.mu.Unlock()
	return true, err
}

// take empties the queue.
func (q *Queue) take() (Batch, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.complete || len(q.changes) == 0 && !q.whole {
		return Batch{}, false
	}
	batch := Batch{Since: q.since, Whole: q.whole, Changes: make([]Change, 0, len(q.changes))}
	for _, c := range q.changes {
		batch.Changes = append(batch.Changes, c)
	}
	q.changes, q.since = map[key]Change{}, time.Time{}
	return batch, true
}

// sink takes changes; *Queue is one.
type sink interface {
	Upsert(obj kinds.Object)
	Delete(obj kinds.Object)
}

// Watch feeds what an informer sees to a queue, or to what counts the changes before it queues them. It returns the informer's Synced.
func Watch[T kinds.Object](to sink, from *client.Informer[T]) <-chan struct{} {
	from.Handle(client.Handler[T]{
		Add:    func(obj T) { to.Upsert(obj) },
		Update: func(_, obj T) { to.Upsert(obj) },
		Delete: func(obj T) { to.Delete(obj) },
	})
	return from.Synced()
}

// Await waits for informers' first lists. It reports false when ctx ended before.
func Await(ctx context.Context, synced ...<-chan struct{}) bool {
	for _, s := range synced {
		select {
		case <-s:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
