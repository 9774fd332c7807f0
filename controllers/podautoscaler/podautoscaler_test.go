// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podautoscaler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/controllers/podautoscaler"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/testcluster"
)

// metered answers for the metrics APIs, which have no servers here, and passes all else on.
type metered struct {
	client.Backend

	mu    sync.Mutex
	paths []string // read so far
	// usage is what every pod uses, by path prefix; an unknown path is an error.
	answer func(path string) (any, error)
}

// set changes what is answered from now on.
func (m *metered) set(answer func(path string) (any, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer = answer
}

// read returns the paths that were read.
func (m *metered) read() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.paths)
}

func (m *metered) Read(_ context.Context, path string, query url.Values) ([]byte, error) {
	m.mu.Lock()
	m.paths = append(m.paths, path+"?"+query.Encode())
	answer := m.answer
	m.mu.Unlock()
	out, err := answer(path)
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// world is a cluster without controllers but the autoscaler's, with the ReplicaSet web and its two pods.
type world struct {
	*testing.T
	c       *client.Client
	metrics *metered
}

func begin(t *testing.T) *world {
	t.Helper()
	cluster := testcluster.New(t, testcluster.Config{Without: control.Components{Controllers: true, Scheduler: true}})
	c := cluster.Admin()
	w := &world{T: t, c: c, metrics: &metered{Backend: c.Backend()}}
	testcluster.RunLoop(t, c, client.New(w.metrics, c.Catalog()), podautoscaler.New)
	add(w, &corev1.ServiceAccount{}, `{metadata: {name: default, namespace: default}}`)
	add(w, &appsv1.ReplicaSet{}, `
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: i}]}
`)
	for _, name := range []string{"web-1", "web-2"} {
		pod := add(w, &corev1.Pod{}, `
metadata: {name: `+name+`, namespace: default, labels: {app: web}}
spec: {containers: [{name: c, image: i, resources: {requests: {cpu: 100m}}}]}
`).DeepCopy()
		began := metav1.NewTime(time.Now().Add(-time.Hour))
		pod.Status.Phase, pod.Status.StartTime = corev1.PodRunning, &began
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: began}}
		if _, err := client.Of[*corev1.Pod](c).UpdateStatus(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
	w.pass(time.Second) // the informers see the pods
	return w
}

func add[T kinds.Object](w *world, obj T, text string) T {
	w.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		w.Fatal(err)
	}
	made, err := client.Of[T](w.c).Create(w.Context(), obj)
	if err != nil {
		w.Fatal(err)
	}
	return made
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// cpu makes every pod use so much.
func (w *world) cpu(text string) {
	w.metrics.set(func(path string) (any, error) {
		if path != "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods" {
			return nil, errors.New("no metrics at " + path)
		}
		var list metricsv1beta1.PodMetricsList
		for _, name := range []string{"web-1", "web-2"} {
			m := metricsv1beta1.PodMetrics{Timestamp: metav1.Now(), Window: metav1.Duration{Duration: 30 * time.Second}}
			m.Name = name
			m.Containers = []metricsv1beta1.ContainerMetrics{{Name: "c", Usage: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(text)}}}
			list.Items = append(list.Items, m)
		}
		return list, nil
	})
}

// expect compares the target's size and the autoscaler's conditions, written as "Type=Status Reason".
func (w *world) expect(replicas int32, conditions ...string) {
	w.Helper()
	rs, err := client.Of[*appsv1.ReplicaSet](w.c).Get(w.Context(), "default", "web")
	if err != nil {
		w.Fatal(err)
	}
	a, err := client.Of[*autoscalingv2.HorizontalPodAutoscaler](w.c).Get(w.Context(), "default", "web")
	if err != nil {
		w.Fatal(err)
	}
	if *rs.Spec.Replicas != replicas {
		w.Errorf("replicas = %d, want %d", *rs.Spec.Replicas, replicas)
	}
	var all []string
	for _, c := range a.Status.Conditions {
		all = append(all, fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason))
	}
	for _, want := range conditions {
		if !strings.Contains(strings.Join(all, "; "), want) {
			w.Errorf("no condition %q in %q", want, all)
		}
	}
}

const autoscaler = `
metadata: {name: web, namespace: default}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: ReplicaSet, name: web}
  minReplicas: 1
  maxReplicas: 6
`

// TestCPU goes up in steps, stays up for five minutes after the load has gone, and says when there are no metrics.
func TestCPU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t)
		w.cpu("200m")
		add(w, &autoscalingv2.HorizontalPodAutoscaler{}, autoscaler+`
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
`)
		w.pass(time.Second)
		w.expect(4, "AbleToScale=True SucceededRescale", "ScalingActive=True ValidMetricFound", "ScalingLimited=True ScaleUpLimit")
		w.pass(15 * time.Second)
		w.expect(6, "ScalingLimited=True TooManyReplicas")
		w.cpu("10m")
		w.pass(4 * time.Minute)
		w.expect(6, "AbleToScale=True ScaleDownStabilized")
		w.pass(2 * time.Minute)
		w.expect(1)
		a, err := client.Of[*autoscalingv2.HorizontalPodAutoscaler](w.c).Get(t.Context(), "default", "web")
		if err != nil {
			t.Fatal(err)
		}
		if m := a.Status.CurrentMetrics; len(m) != 1 || *m[0].Resource.Current.AverageUtilization != 10 || m[0].Resource.Current.AverageValue.String() != "10m" {
			t.Errorf("metrics in the status: %+v", m)
		}
		w.metrics.set(func(string) (any, error) { return nil, errors.New("meter is broken") })
		w.pass(15 * time.Second)
		w.expect(1, "ScalingActive=False FailedGetResourceMetric")
		events, err := client.Of[*corev1.Event](w.c).List(t.Context(), "default", metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		said := ""
		for _, e := range events.Items {
			said += e.Reason + ": " + e.Message + "\n"
		}
		for _, want := range []string{
			"SuccessfulRescale: New size: 4; reason: cpu resource utilization (percentage of request) above target",
			"SuccessfulRescale: New size: 1; reason: All metrics below target",
			"FailedGetResourceMetric: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: meter is broken",
		} {
			if !strings.Contains(said, want) {
				t.Errorf("no event %q in:\n%s", want, said)
			}
		}
	})
}

// TestOtherMetrics asks the custom and external metrics APIs at the paths that they define.
func TestOtherMetrics(t *testing.T) {
	tests := []struct {
		name, metric, path string
		value              string // what the API says, of each pod for a pods metric
		want               int32
	}{
		{
			"pods", `{type: Pods, pods: {metric: {name: requests}, target: {type: AverageValue, averageValue: 10}}}`,
			"/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/*/requests?labelSelector=app%3Dweb&metricLabelSelector=", "15", 3,
		},
		{
			"object", `{type: Object, object: {metric: {name: queue}, describedObject: {apiVersion: apps/v1, kind: ReplicaSet, name: web}, target: {type: Value, value: 10}}}`,
			"/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/replicasets.apps/web/queue?metricLabelSelector=", "20", 4,
		},
		{
			"external", `{type: External, external: {metric: {name: mails, selector: {matchLabels: {box: in}}}, target: {type: AverageValue, averageValue: 10}}}`,
			"/apis/external.metrics.k8s.io/v1beta1/namespaces/default/mails?labelSelector=box%3Din", "25", 3,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := begin(t)
				w.metrics.set(func(path string) (any, error) {
					var items []map[string]any
					for _, name := range []string{"web-1", "web-2"} {
						items = append(items, map[string]any{
							"describedObject": map[string]any{"kind": "Pod", "name": name}, "timestamp": metav1.Now(), "value": test.value,
						})
					}
					if strings.Contains(path, "pods") {
						return map[string]any{"items": items}, nil
					}
					return map[string]any{"items": items[:1]}, nil
				})
				add(w, &autoscalingv2.HorizontalPodAutoscaler{}, autoscaler+"  metrics: ["+test.metric+"]\n")
				w.pass(time.Second)
				w.expect(test.want, "ScalingActive=True ValidMetricFound")
				if paths := w.metrics.read(); len(paths) == 0 || paths[0] != test.path {
					t.Errorf("paths read: %q, want %q first", paths, test.path)
				}
			})
		})
	}
}

// TestTargetThatIsNotThere is told to the user.
func TestTargetThatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t)
		w.cpu("1m")
		add(w, &autoscalingv2.HorizontalPodAutoscaler{}, strings.Replace(autoscaler, "name: web}", "name: absent}", 1))
		w.pass(time.Second)
		w.expect(2, "AbleToScale=False FailedGetScale")
	})
}

// TestTwoForOneTarget refuses both.
func TestTwoForOneTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t)
		w.cpu("200m")
		add(w, &autoscalingv2.HorizontalPodAutoscaler{}, strings.Replace(autoscaler, "{name: web,", "{name: rival,", 1))
		w.pass(time.Second)
		add(w, &autoscalingv2.HorizontalPodAutoscaler{}, autoscaler)
		w.pass(time.Second)
		w.expect(4, "ScalingActive=False AmbiguousSelector")
	})
}
