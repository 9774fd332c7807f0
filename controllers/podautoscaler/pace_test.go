// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podautoscaler

import (
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// TestPace follows one history: at each time the metrics wish for a size, and what is decided is done.
func TestPace(t *testing.T) {
	type step struct {
		at     time.Duration
		wish   int32
		want   int32
		reason string // why the wish is limited
	}
	tests := []struct {
		name, behavior string
		steps          []step
	}{
		{"without behavior: doubled at most, five minutes before it shrinks", "", []step{
			{0, 20, 10, "ScaleUpLimit"},
			{15 * time.Second, 20, 20, "DesiredWithinRange"},
			{30 * time.Second, 60, 40, "ScaleUpLimit"},
			{45 * time.Second, 60, 50, "TooManyReplicas"},
			{time.Minute, 1, 50, "TooManyReplicas"},
			{6 * time.Minute, 1, 2, "TooFewReplicas"},
		}},
		{"two pods a minute up", "{scaleUp: {policies: [{type: Pods, value: 2, periodSeconds: 60}]}}", []step{
			{0, 20, 7, "ScaleUpLimit"},
			{30 * time.Second, 20, 7, "ScaleUpLimit"},
			{61 * time.Second, 20, 9, "ScaleUpLimit"},
		}},
		{"the smaller of two policies", "{scaleUp: {selectPolicy: Min, policies: [{type: Pods, value: 1, periodSeconds: 60}, {type: Percent, value: 100, periodSeconds: 60}]}}", []step{
			{0, 20, 6, "ScaleUpLimit"},
		}},
		{"a tenth a minute down, without a window", "{scaleDown: {stabilizationWindowSeconds: 0, policies: [{type: Percent, value: 10, periodSeconds: 60}]}}", []step{
			{0, 50, 10, "ScaleUpLimit"}, {15 * time.Second, 50, 20, "ScaleUpLimit"}, {30 * time.Second, 2, 4, "ScaleDownLimit"},
		}},
		{"never down", "{scaleDown: {stabilizationWindowSeconds: 0, selectPolicy: Disabled, policies: [{type: Pods, value: 5, periodSeconds: 60}]}}", []step{
			{0, 3, 5, "ScaleDownLimit"},
		}},
		{"a window before it grows", "{scaleUp: {stabilizationWindowSeconds: 60, policies: [{type: Pods, value: 50, periodSeconds: 15}]}}", []step{
			{0, 20, 5, "DesiredWithinRange"},
			{30 * time.Second, 30, 5, "DesiredWithinRange"},
			{61 * time.Second, 20, 20, "DesiredWithinRange"},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
			if test.behavior != "" {
				behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{}
				if err := yaml.UnmarshalStrict([]byte(test.behavior), behavior); err != nil {
					t.Fatal(err)
				}
				if behavior.ScaleUp == nil { // as the API server defaults it
					behavior.ScaleUp = &autoscalingv2.HPAScalingRules{Policies: []autoscalingv2.HPAScalingPolicy{
						{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15}, {Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15},
					}}
				}
			}
			h, begin, current := &history{}, time.Unix(1_700_000_000, 0), int32(5)
			h.begin(current, begin.Add(-time.Second))
			for _, s := range test.steps {
				now := begin.Add(s.at)
				_, got := h.pace(behavior, current, s.wish, 2, 50, now)
				if got.replicas != s.want || got.reason != s.reason {
					t.Errorf("after %v: %d %s, want %d %s", s.at, got.replicas, got.reason, s.want, s.reason)
				}
				if got.replicas != current {
					h.changed(current, got.replicas, now)
					current = got.replicas
				}
			}
		})
	}
}

// TestDemand is about pods that have no samples or whose samples do not count.
func TestDemand(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	ago := func(d time.Duration) *metav1.Time { at := metav1.NewTime(now.Add(-d)); return &at }
	pod := func(name string, phase corev1.PodPhase, started time.Duration, ready corev1.ConditionStatus) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}}
		p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}}}
		p.Status = corev1.PodStatus{Phase: phase, StartTime: ago(started), Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: ready, LastTransitionTime: *ago(started - time.Second)},
		}}
		return p
	}
	running := func(name string) *corev1.Pod { return pod(name, corev1.PodRunning, time.Hour, corev1.ConditionTrue) }
	tests := []struct {
		name    string
		pods    []*corev1.Pod
		samples map[string]int64 // thousandths of a CPU
		want    int32
	}{
		{"all are measured", []*corev1.Pod{running("a"), running("b")}, map[string]int64{"a": 1000, "b": 1000}, 4},
		{"within the tolerance", []*corev1.Pod{running("a"), running("b")}, map[string]int64{"a": 540, "b": 540}, 2},
		{"a missing one is idle when there are to be more", []*corev1.Pod{running("a"), running("b")}, map[string]int64{"a": 1500}, 3},
		{"a missing one uses all when there are to be fewer", []*corev1.Pod{running("a"), running("b"), running("c")}, map[string]int64{"a": 0, "b": 0}, 2},
		{"a pending one is idle when there are to be more", []*corev1.Pod{running("a"), pod("b", corev1.PodPending, 0, corev1.ConditionFalse)}, map[string]int64{"a": 1500}, 3},
		{"a starting one does not count", []*corev1.Pod{running("a"), pod("b", corev1.PodRunning, time.Minute, corev1.ConditionFalse)}, map[string]int64{"a": 100, "b": 5000}, 1},
		{"one that dampens into the tolerance changes nothing", []*corev1.Pod{running("a"), running("b")}, map[string]int64{"a": 1000}, 2},
		{"a failed one is not there", []*corev1.Pod{running("a"), pod("b", corev1.PodFailed, time.Hour, corev1.ConditionFalse)}, map[string]int64{"a": 1000, "b": 9000}, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := &demand{pods: test.pods, samples: map[string]sample{}, resource: corev1.ResourceCPU, current: 2, tolerance: toleranceOf(nil), now: now}
			if len(test.pods) == 3 {
				d.current = 3
			}
			for name, m := range test.samples {
				d.samples[name] = sample{at: now, window: 30 * time.Second, milli: m}
			}
			got, _, err := d.byUtilization(50, "")
			if err != nil || got != test.want {
				t.Errorf("byUtilization = %d, %v, want %d", got, err, test.want)
			}
		})
	}
}
