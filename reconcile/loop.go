// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package reconcile is the runtime of control loops: triggers that turn changes into keys, a queue that never runs one
// key twice at a time, back-off by error, leader election, and the recorder of Events.
//
// A loop is level-triggered. It is told which object to look at, never what happened: it reads the world, computes, writes,
// and is called again when something that it watches changes.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
)

// Key names the object that a loop looks at. Namespace is empty for cluster-scoped kinds.
type Key = types.NamespacedName

// KeyOf returns an object's key.
func KeyOf(obj metav1.Object) Key {
	return Key{Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// Config of a Loop.
type Config struct {
	// Name of the controller, as in its service account: "deployment-controller".
	Name string
	Log  *slog.Logger
	// Workers is how many keys are reconciled at a time; 0 means 1.
	Workers int
	// Informers that must have delivered their first list before the first key is reconciled. May be nil.
	Informers *client.Informers
	// Reconcile brings the world of one key closer to what it should be. It must be idempotent. The error decides when it is
	// called again: nil not until a trigger fires; After(d) in d; Terminal(err) not until a trigger fires, logged; anything
	// else after an exponential back-off per key, from 5 ms to 5 minutes.
	Reconcile func(ctx context.Context, key Key) error
}

// Loop runs one controller.
type Loop struct {
	config Config
	queue  *queue
}

// New makes a loop. Triggers are added before Run.
func New(config Config) *Loop {
	if config.Workers <= 0 {
		config.Workers = 1
	}
	return &Loop{config: config, queue: newQueue()}
}

// Name of the controller.
func (l *Loop) Name() string { return l.config.Name }

// Observe counts what the loop does from now on. Call it before Run.
func (l *Loop) Observe(m *Metrics) {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	l.queue.observer = m.of(l.config.Name)
	for _, key := range l.queue.waiting {
		l.queue.observer.added(key)
	}
}

// Enqueue asks for a reconcile of key. A key that waits already is not added twice; one that is being reconciled is
// reconciled once more afterwards.
func (l *Loop) Enqueue(keys ...Key) {
	for _, key := range keys {
		l.queue.add(key)
	}
}

// EnqueueAfter asks for a reconcile of key in d. The earliest of several wishes for a key wins.
func (l *Loop) EnqueueAfter(key Key, d time.Duration) { l.queue.addAfter(key, d) }

// Run reconciles until ctx ends and waits for its workers.
func (l *Loop) Run(ctx context.Context) error {
	if l.config.Informers != nil {
		if err := l.config.Informers.WaitSynced(ctx); err != nil {
			return nil //nolint:nilerr // ctx ended before there was anything to do
		}
	}
	return l.queue.run(ctx, l.config.Workers, l.once)
}

// once reconciles one key and decides about the next time.
func (l *Loop) once(ctx context.Context, key Key) {
	err := l.guarded(ctx, key)
	var after *afterError
	var terminal *terminalError
	switch {
	case err == nil:
		l.queue.forget(key)
	case ctx.Err() != nil:
	case errors.As(err, &after):
		l.queue.forget(key)
		l.queue.addAfter(key, after.delay)
	case errors.As(err, &terminal):
		l.queue.forget(key)
		l.config.Log.Warn("reconcile gave up until the next change", "controller", l.config.Name, "object", key, "err", terminal.err)
	default:
		attempt, delay := l.queue.retry(key)
		level := slog.LevelWarn
		if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || attempt < 3 {
			level = slog.LevelDebug // a lagging view; the next attempt sees the newer one
		}
		l.config.Log.Log(ctx, level, "reconcile will be tried again", "controller", l.config.Name, "object", key,
			"attempt", attempt, "delay", delay, "err", err)
	}
}

// guarded turns a panic of one reconcile into an error of it.
func (l *Loop) guarded(ctx context.Context, key Key) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return l.config.Reconcile(ctx, key)
}

type afterError struct{ delay time.Duration }

func (e *afterError) Error() string { return "look again in " + e.delay.String() }

// After is returned by a Reconcile that is content but wants to be called again in d.
func After(d time.Duration) error { return &afterError{delay: d} }

// unseen is how long after a look that found what a view did not show another one is worthwhile.
const unseen = 5 * time.Second

// Unseen is returned by a Reconcile that is content for something that exists and that its view does not show, as a read of its own or its own write
// has told. The view will show it and wake the loop, but not if it goes before the list that would have shown it.
func Unseen() error { return After(unseen) }

// Made is returned by a Reconcile that has created what its view does not show, with the error of that, which may say that it was there. In a namespace
// that goes away nothing can be made, and nothing need be.
func Made(err error) error {
	switch {
	case err == nil || apierrors.IsAlreadyExists(err):
		return Unseen()
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	}
	return err
}

type terminalError struct{ err error }

func (e *terminalError) Error() string { return e.err.Error() }
func (e *terminalError) Unwrap() error { return e.err }

// Terminal marks an error that trying again can't mend.
func Terminal(err error) error { return &terminalError{err: err} }

// On enqueues keys(obj) whenever an object of the informer appears, changes (keys of the old and of the new state) or goes.
func On[T kinds.Object](l *Loop, f *client.Informer[T], keys func(obj T) []Key) {
	f.Handle(client.Handler[T]{
		Add:    func(obj T) { l.Enqueue(keys(obj)...) },
		Update: func(old, new T) { l.Enqueue(keys(old)...); l.Enqueue(keys(new)...) },
		Delete: func(last T) { l.Enqueue(keys(last)...) },
	})
}

// Self enqueues every object of the informer under its own key.
func Self[T kinds.Object](l *Loop, f *client.Informer[T]) {
	f.Handle(client.Handler[T]{
		Add:    func(obj T) { l.Enqueue(KeyOf(obj)) },
		Update: func(_, new T) { l.Enqueue(KeyOf(new)) },
		Delete: func(last T) { l.Enqueue(KeyOf(last)) },
	})
}

// Owner enqueues the controlling owner of every object of the informer when it is of the given kind ("ReplicaSet").
func Owner[T kinds.Object](l *Loop, f *client.Informer[T], kind string) {
	On(l, f, func(obj T) []Key {
		if key, owned := OwnerKey(obj, kind); owned {
			return []Key{key}
		}
		return nil
	})
}
