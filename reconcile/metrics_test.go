// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// TestMetricsOfALoop has one key that waits for another, and one whose first attempt fails.
func TestMetricsOfALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := false
		loop := New(Config{Name: "test", Log: slog.New(slog.DiscardHandler), Reconcile: func(_ context.Context, key Key) error {
			time.Sleep(time.Second)
			if key.Name == "b" && !failed {
				failed = true
				return errors.New("not yet")
			}
			return nil
		}})
		m, registry := NewMetrics(), prometheus.NewRegistry()
		registry.MustRegister(m)
		loop.Enqueue(Key{Name: "a"}) // before it is observed
		loop.Observe(m)
		loop.Enqueue(Key{Name: "b"}, Key{Name: "b"})
		read := func() map[string]float64 {
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]float64{}
			for _, f := range families {
				for _, v := range f.Metric {
					if v.Label[0].GetValue() != "test" {
						t.Errorf("%s has label %s, want the loop's name", f.GetName(), v.Label[0])
					}
					switch {
					case v.Histogram != nil:
						got[f.GetName()+"_count"], got[f.GetName()+"_sum"] = float64(v.Histogram.GetSampleCount()), v.Histogram.GetSampleSum()
					case v.Counter != nil:
						got[f.GetName()] = v.Counter.GetValue()
					default:
						got[f.GetName()] = v.Gauge.GetValue()
					}
				}
			}
			return got
		}
		if got := read()["workqueue_depth"]; got != 2 {
			t.Errorf("workqueue_depth = %v before the loop runs, want 2", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- loop.Run(ctx) }()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		want := map[string]float64{
			"workqueue_adds_total": 3, "workqueue_retries_total": 1, "workqueue_depth": 0,
			"workqueue_work_duration_seconds_count": 3, "workqueue_work_duration_seconds_sum": 3,
			// b waits for a; what waits for its back-off is not in the queue.
			"workqueue_queue_duration_seconds_count": 3, "workqueue_queue_duration_seconds_sum": 1,
		}
		if diff := cmp.Diff(want, read()); diff != "" {
			t.Errorf("metrics (-want +got):\n%s", diff)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
