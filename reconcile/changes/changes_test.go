// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package changes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// engine notes what it is given.
type engine struct {
	began   time.Time
	applied []string // "<milliseconds> [whole] <kind>/<name>=<label> -<deleted>"
	fail    int      // so many applications fail
	idle    bool     // applications take note only
	spoiled atomic.Bool
}

func (e *engine) apply(batch Batch) (bool, error) {
	var words []string
	for _, c := range batch.Changes {
		word := fmt.Sprintf("%T/%s=%s", c.Object, c.Object.GetName(), c.Object.GetLabels()["v"])
		if c.Deleted {
			word = "-" + word
		}
		words = append(words, strings.ReplaceAll(word, "*v1.", ""))
	}
	slices.Sort(words)
	if batch.Whole {
		words = append([]string{"whole"}, words...)
	}
	e.applied = append(e.applied, fmt.Sprint(time.Since(e.began).Milliseconds(), " ", strings.Join(words, " ")))
	if e.fail > 0 {
		e.fail--
		return true, errors.New("refused")
	}
	return !e.idle, nil
}

func (e *engine) look() bool { return e.spoiled.Swap(false) }

func pod(name, v string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"v": v}}}
}

// play runs a queue beside a script and compares what was applied.
func play(t *testing.T, e *engine, script func(q *Queue), want ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e.began = time.Now()
		q := New(Config{Apply: e.apply, Look: e.look, Period: 20 * time.Millisecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			q.Run(ctx)
			close(done)
		}()
		script(q)
		synctest.Wait()
		cancel()
		<-done
		if diff := cmp.Diff(want, e.applied); diff != "" {
			t.Errorf("applied (-want +got):\n%s", diff)
		}
	})
}

func TestNothingIsAppliedUntilComplete(t *testing.T) {
	play(t, &engine{}, func(q *Queue) {
		q.Upsert(pod("a", "1"))
		time.Sleep(time.Second)
		q.Complete(true)
		synctest.Wait()
		q.Complete(false)
		q.Upsert(pod("b", "1"))
		time.Sleep(time.Second)
		q.Complete(true)
	}, "1000 whole Pod/a=1", "2000 Pod/b=1")
	play(t, &engine{}, func(q *Queue) { q.Complete(true) }, "0 whole")
}

func TestABurstIsAppliedOnceInItsNewestState(t *testing.T) {
	play(t, &engine{}, func(q *Queue) {
		q.Complete(true)
		synctest.Wait()
		for i := range 10 {
			q.Upsert(pod("a", fmt.Sprint(i)))
			q.Upsert(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a"}})
			synctest.Wait()
		}
		q.Delete(pod("b", "9"))
		time.Sleep(time.Second)
		q.Upsert(pod("c", "1"))
	}, "0 whole", "20 -Pod/b=9 Pod/a=9 Service/a=", "1000 Pod/c=1")
}

func TestTakingNoteDoesNotSlowDown(t *testing.T) {
	play(t, &engine{idle: true}, func(q *Queue) {
		q.Complete(true)
		synctest.Wait()
		q.Upsert(pod("a", "1"))
		synctest.Wait()
		q.Upsert(pod("a", "2"))
	}, "0 whole", "0 Pod/a=1", "0 Pod/a=2")
}

func TestFailuresAreTriedAgainAsAWhole(t *testing.T) {
	play(t, &engine{fail: 3}, func(q *Queue) {
		q.Upsert(pod("a", "1"))
		began := time.Now()
		q.Complete(true)
		time.Sleep(650 * time.Millisecond) // fails at 0, 100 and 300 ms
		if got := q.Waiting(); !got.Equal(began) {
			t.Errorf("Waiting() = %s after three failures, want %s", got, began)
		}
		time.Sleep(100 * time.Millisecond)
		if got := q.Waiting(); !got.IsZero() {
			t.Errorf("Waiting() = %s after all went well, want zero", got)
		}
		q.Upsert(pod("a", "2"))
	}, "0 whole Pod/a=1", "100 whole", "300 whole", "700 whole", "750 Pod/a=2")
}

func TestWhatSomebodySpoiledIsAppliedAgain(t *testing.T) {
	e := &engine{}
	play(t, e, func(q *Queue) {
		q.Complete(true)
		time.Sleep(LookEvery + time.Second)
		e.spoiled.Store(true)
		time.Sleep(LookEvery)
	}, "0 whole", "60000 whole")
}
