// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// kubelets is a cluster whose nodes use half a core and whose containers use a quarter.
type kubelets struct {
	began   time.Time
	scrapes atomic.Int64
	down    map[string]bool
	// step is how often a kubelet reads its counters; 0 means at every scrape.
	step time.Duration
}

func (k *kubelets) scrape(_ context.Context, node string) (io.ReadCloser, error) {
	k.scrapes.Add(1)
	if k.down[node] {
		return nil, errors.New("connection refused")
	}
	at := time.Now()
	if k.step > 0 {
		at = at.Truncate(k.step)
	}
	seconds, ms := at.Sub(k.began).Seconds(), at.UnixMilli()
	return io.NopCloser(strings.NewReader(fmt.Sprintf(`# HELP node_cpu_usage_seconds_total of the node
node_cpu_usage_seconds_total %g %d
node_memory_working_set_bytes 1.073741824e+09 %d
container_cpu_usage_seconds_total{container="app",namespace="default",pod="web-%s"} %g %d
container_cpu_usage_seconds_total{container="side",namespace="default",pod="web-%s"} %g %d
container_memory_working_set_bytes{container="app",namespace="default",pod="web-%s"} 1048576 %d
container_memory_working_set_bytes{container="side",namespace="default",pod="web-%s"} 2097152 %d
pod_cpu_usage_seconds_total{namespace="default",pod="web-%s"} 1 %d
scrape_error 0
`, 100+seconds/2, ms, ms, node, seconds/4, ms, node, seconds/4, ms, node, ms, node, ms, node, ms))), nil
}

func newServer(t testing.TB, k *kubelets) *Server {
	t.Helper()
	k.began = time.Now()
	nodes := []*corev1.Node{
		{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, {ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"disk": "fast"}}},
	}
	var pods []*corev1.Pod
	for _, n := range nodes {
		pods = append(pods, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-" + n.Name, Labels: map[string]string{"app": "web"}},
			Spec:       corev1.PodSpec{NodeName: n.Name}, Status: corev1.PodStatus{Phase: corev1.PodRunning},
		})
	}
	pods = append(pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "done"}, Spec: corev1.PodSpec{NodeName: "n1"}, Status: corev1.PodStatus{Phase: corev1.PodSucceeded}})
	s, err := New(Config{
		Scrape: k.scrape, Nodes: func() []*corev1.Node { return nodes }, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Pods: func(namespace string) []*corev1.Pod {
			if namespace == "" || namespace == "default" {
				return pods
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func get(t *testing.T, s *Server, path, accept string) (*httptest.ResponseRecorder, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, Prefix+path, nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w, w.Body.String()
}

func TestUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kubelets{}
		s := newServer(t, k)
		began := time.Now()
		_, body := get(t, s, "/v1beta1/nodes", "")
		if took := time.Since(began); took != time.Second {
			t.Errorf("the first answer took %s", took)
		}
		var nodes v1beta1.NodeMetricsList
		if err := json.Unmarshal([]byte(body), &nodes); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range nodes.Items {
			got = append(got, fmt.Sprintf("%s %s %s %s", n.Name, n.Usage.Cpu(), n.Usage.Memory(), n.Window.Duration))
		}
		if diff := cmp.Diff([]string{"n1 500m 1Gi 1s", "n2 500m 1Gi 1s"}, got); diff != "" {
			t.Errorf("nodes (-want +got):\n%s", diff)
		}
		if nodes.Kind != "NodeMetricsList" || nodes.APIVersion != "metrics.k8s.io/v1beta1" {
			t.Errorf("type %s %s", nodes.APIVersion, nodes.Kind)
		}
		if k.scrapes.Load() != 4 {
			t.Errorf("%d scrapes, want 4", k.scrapes.Load())
		}
		_, body = get(t, s, "/v1beta1/namespaces/default/pods?labelSelector=app=web", "")
		var pods v1beta1.PodMetricsList
		if err := json.Unmarshal([]byte(body), &pods); err != nil {
			t.Fatal(err)
		}
		if k.scrapes.Load() != 4 {
			t.Errorf("fresh samples were taken again: %d scrapes", k.scrapes.Load())
		}
		if len(pods.Items) != 2 || len(pods.Items[0].Containers) != 2 || pods.Items[0].Containers[1].Name != "side" ||
			pods.Items[0].Containers[0].Usage.Cpu().String() != "250m" || pods.Items[0].Containers[1].Usage.Memory().String() != "2Mi" {
			t.Errorf("pods: %s", body)
		}
		time.Sleep(30 * time.Second)
		began = time.Now()
		_, body = get(t, s, "/v1beta1/nodes/n1", "")
		if !strings.Contains(body, `"window":"31s"`) && !strings.Contains(body, `"window":"30s"`) || time.Since(began) != 0 {
			t.Errorf("after 30 s: %s, took %s", body, time.Since(began))
		}
		time.Sleep(time.Hour)
		k.down = map[string]bool{"n2": true}
		_, body = get(t, s, "/v1beta1/nodes", "")
		if !strings.Contains(body, `"window":"1s"`) || strings.Contains(body, "n2") {
			t.Errorf("after an hour, with n2 down: %s", body)
		}
		if w, _ := get(t, s, "/v1beta1/nodes/n2", ""); w.Code != http.StatusNotFound {
			t.Errorf("node that is down: %d", w.Code)
		}
	})
}

func TestKubeletThatCachesItsFigures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, &kubelets{step: 15 * time.Second})
		time.Sleep(100 * time.Second)
		_, body := get(t, s, "/v1beta1/nodes/n1", "")
		if !strings.Contains(body, `"cpu":"500m"`) || !strings.Contains(body, `"window":"15s"`) {
			t.Errorf("node: %s", body)
		}
	})
}

func TestContainerThatStartedInTheWindow(t *testing.T) {
	at := time.Unix(1000, 0)
	last := reading{cpu: 2, cpuAt: at, memory: 7, hasCPU: true, hasMem: true, start: at.Add(-4 * time.Second)}
	for _, c := range []struct {
		name   string
		before reading
		want   float64
		ok     bool
	}{
		{"new", reading{}, 0.5, true},
		{"restarted", reading{cpu: 100, cpuAt: at.Add(-10 * time.Second), hasCPU: true, hasMem: true}, 0.5, true},
		{"counter went back without a restart", reading{cpu: 100, cpuAt: at.Add(-2 * time.Second), hasCPU: true, hasMem: true}, 0, false},
	} {
		got, ok := over(c.before, last)
		if got.cores != c.want || ok != c.ok {
			t.Errorf("%s: %g cores, %t; want %g, %t", c.name, got.cores, ok, c.want, c.ok)
		}
	}
}

func TestFormatsAndRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, &kubelets{})
		for _, c := range []struct {
			path, accept string
			code         int
			media, has   string
		}{
			{"", "", 200, "application/json", `"kind":"APIGroup"`},
			{"/v1beta1", "application/vnd.kubernetes.protobuf", 200, "application/json", `"kind":"NodeMetrics"`},
			{"/v1beta1/nodes", "application/vnd.kubernetes.protobuf,application/json", 200, "application/vnd.kubernetes.protobuf", "k8s\x00"},
			{"/v1beta1/pods", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json", 200, "application/json", `"cells":["web-n1","500m","3Mi","1s"]`},
			{"/v1beta1/nodes/n1", "application/json;as=Table;v=v1;g=meta.k8s.io", 200, "application/json", `"cells":["n1","500m","1Gi","1s"]`},
			{"/v1beta1/nodes?labelSelector=disk=fast", "", 200, "application/json", `"n1"`},
			{"/v1beta1/nodes?labelSelector=a=b=c", "", 400, "application/json", "BadRequest"},
			{"/v1beta1/pods?fieldSelector=spec.nodeName=n1", "", 400, "application/json", "field label not supported"},
			{"/v1beta1/nodes/none", "", 404, "application/json", `nodemetrics.metrics.k8s.io \"none\" not found`},
			{"/v1beta1/namespaces/default/pods/done", "", 404, "application/json", `podmetrics.metrics.k8s.io \"default/done\" not found`},
			{"/v1beta1/nodes?watch=true", "", 405, "application/json", "MethodNotAllowed"},
			{"/v1/nodes", "", 404, "application/json", "could not find the requested resource"},
			{"/v1beta1/nodes", "text/html", 406, "application/json", "NotAcceptable"},
		} {
			w, body := get(t, s, c.path, c.accept)
			if w.Code != c.code || w.Header().Get("Content-Type") != c.media || !strings.Contains(body, c.has) {
				t.Errorf("GET %s (%s) = %d %s %s; want %d %s with %s", c.path, c.accept, w.Code, w.Header().Get("Content-Type"), body, c.code, c.media, c.has)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("node_cpu_usage_seconds_total 1 2\ncontainer_memory_working_set_bytes{container=\"a\\\"b\",namespace=\"n\",pod=\"p\"} 3 4\n")
	f.Add("container_start_time_seconds{container=\"a\"} 1.7e9")
	f.Add("node_cpu_usage_seconds_total{ 1")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parse(strings.NewReader(text), time.Unix(0, 0))
		if err != nil {
			return
		}
		if s.node.cpu < 0 || s.node.memory < 0 {
			t.Errorf("negative use from %q", text)
		}
	})
}
