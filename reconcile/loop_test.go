// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
)

// run starts a loop inside a bubble and returns how to end it.
func run(l *Loop) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	return func() { cancel(); <-done }
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestKeyIsNeverReconciledTwiceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most, runs := 0, 0, 0
		l := New(Config{Name: "test", Log: quiet(), Workers: 4, Reconcile: func(context.Context, Key) error {
			mu.Lock()
			running++
			runs++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			running--
			mu.Unlock()
			return nil
		}})
		stop := run(l)
		key := Key{Name: "a"}
		l.Enqueue(key, key, key)
		time.Sleep(500 * time.Millisecond)
		l.Enqueue(key, key) // while it runs: once more afterwards, not twice
		time.Sleep(10 * time.Second)
		stop()
		if most != 1 || runs != 2 {
			t.Errorf("most at a time = %d, runs = %d; want 1, 2", most, runs)
		}
	})
}

func TestErrorDecidesAboutTheNextTime(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want []time.Duration // of the first calls, since the start
	}{
		{"nil waits for a trigger", nil, []time.Duration{0}},
		{"terminal waits for a trigger", Terminal(errors.New("no")), []time.Duration{0}},
		{"after comes back in time", After(time.Minute), []time.Duration{0, time.Minute, 2 * time.Minute}},
		{"any other backs off", errors.New("again"), []time.Duration{
			0, 5 * time.Millisecond, 15 * time.Millisecond, 35 * time.Millisecond, 75 * time.Millisecond,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var calls []time.Duration
				l := New(Config{Name: "test", Log: quiet(), Reconcile: func(context.Context, Key) error {
					calls = append(calls, time.Since(began))
					return test.err
				}})
				stop := run(l)
				l.Enqueue(Key{Name: "a"})
				time.Sleep(150 * time.Second)
				stop()
				if diff := cmp.Diff(test.want, calls[:min(len(calls), max(len(test.want), 1))]); diff != "" {
					t.Errorf("calls (-want +got):\n%s", diff)
				}
				if len(test.want) == 1 && len(calls) != 1 {
					t.Errorf("called %d times, want once", len(calls))
				}
			})
		})
	}
}

func TestPanicOfOneKeyIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := map[string]int{}
		l := New(Config{Name: "test", Log: quiet(), Reconcile: func(_ context.Context, key Key) error {
			calls[key.Name]++
			if key.Name == "bad" && calls["bad"] == 1 {
				panic("broken")
			}
			return nil
		}})
		stop := run(l)
		l.Enqueue(Key{Name: "bad"}, Key{Name: "good"})
		time.Sleep(time.Second)
		stop()
		if diff := cmp.Diff(map[string]int{"bad": 2, "good": 1}, calls); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

func TestEarliestWishWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var calls []time.Duration
		l := New(Config{Name: "test", Log: quiet(), Reconcile: func(context.Context, Key) error {
			calls = append(calls, time.Since(began))
			return nil
		}})
		stop := run(l)
		for _, d := range []time.Duration{time.Minute, time.Second, time.Hour} {
			l.EnqueueAfter(Key{Name: "a"}, d)
		}
		time.Sleep(2 * time.Hour)
		stop()
		if diff := cmp.Diff([]time.Duration{time.Second}, calls); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

func TestExpectations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e Expectations
		key := Key{Name: "a"}
		check := func(want bool, when string) {
			t.Helper()
			if got := e.Fulfilled(key); got != want {
				t.Errorf("Fulfilled %s = %v, want %v", when, got, want)
			}
		}
		check(true, "before anything is expected")
		e.ExpectCreates(key, 2)
		e.Created(key)
		check(false, "with one creation unseen")
		e.Created(key)
		check(true, "when all are seen")
		e.ExpectDeletes(key, types.UID("x"))
		e.Deleted(key, types.UID("y"))
		check(false, "when another one went")
		e.Deleted(key, types.UID("x"))
		check(true, "when the right one went")
		e.ExpectCreates(key, 1)
		time.Sleep(expectationTimeout + time.Second)
		check(true, "after the timeout")
	})
}
