// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package eviction

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func thresholds(t *testing.T, hard, soft, grace map[string]string) []Threshold {
	t.Helper()
	out, err := Parse(hard, soft, grace, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestHardThresholdActsAtOnceAndPressureStays(t *testing.T) {
	s := New(thresholds(t, map[string]string{"memory.available": "100"}, nil, nil), time.Minute)
	now := time.Unix(0, 0)
	low := map[Signal]Observation{MemoryAvailable: {Available: 50, Capacity: 1000}}
	high := map[Signal]Observation{MemoryAvailable: {Available: 500, Capacity: 1000}}
	if met := s.Observe(low, now); met == nil || met.Resource != "memory" {
		t.Fatalf("Observe = %+v, want memory", met)
	}
	if met := s.Observe(high, now.Add(10*time.Second)); met != nil {
		t.Errorf("Observe = %+v with enough memory", met)
	}
	if !s.Pressure(corev1.NodeMemoryPressure) {
		t.Error("pressure ends before its time")
	}
	s.Observe(high, now.Add(2*time.Minute))
	if s.Pressure(corev1.NodeMemoryPressure) {
		t.Error("pressure does not end")
	}
}

func TestSoftThresholdWaits(t *testing.T) {
	s := New(thresholds(t, nil, map[string]string{"nodefs.available": "10%"}, map[string]string{"nodefs.available": "30s"}), 0)
	low := map[Signal]Observation{NodeFsAvailable: {Available: 5, Capacity: 100}}
	now := time.Unix(0, 0)
	if s.Observe(low, now) != nil {
		t.Error("acts at once")
	}
	if met := s.Observe(low, now.Add(30*time.Second)); met == nil || !met.Soft {
		t.Errorf("Observe after the grace = %+v", met)
	}
}

func TestThresholdsAreChecked(t *testing.T) {
	for _, hard := range []map[string]string{{"x": "1"}, {"memory.available": "-1"}, {"memory.available": "200%"}, {"memory.available": "y"}} {
		if _, err := Parse(hard, nil, nil, nil); err == nil {
			t.Errorf("Parse(%v) succeeds", hard)
		}
	}
	if _, err := Parse(nil, map[string]string{"memory.available": "1"}, nil, nil); err == nil {
		t.Error("a soft threshold without grace is taken")
	}
}

func TestChooseTheGreediestOfTheLeastImportant(t *testing.T) {
	met := &Met{Signal: MemoryAvailable, Resource: "memory", Threshold: &Threshold{Percent: 10}, Observation: Observation{Available: 1, Capacity: 100}}
	pod := func(request string) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(request)},
		}}}}}
	}
	list := []Candidate{
		{ID: "within", Pod: pod("100"), Memory: 90, Priority: -5},
		{ID: "important", Pod: pod("0"), Memory: 1000, Priority: 10},
		{ID: "small", Pod: pod("10"), Memory: 20},
		{ID: "greedy", Pod: pod("10"), Memory: 80},
	}
	if got := Choose(list, met); got == nil || got.ID != "greedy" {
		t.Errorf("Choose = %+v, want greedy", got)
	}
	if got := Choose(nil, met); got != nil {
		t.Errorf("Choose of nothing = %+v", got)
	}
}
