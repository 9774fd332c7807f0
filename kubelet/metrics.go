// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"kogge.dev/kogge/kubelet/pod"
)

// ownMetrics are the kubelet's own, computed when asked for.
func (k *Kubelet) ownMetrics() http.Handler {
	registry := prometheus.NewRegistry()
	gauge := func(name, help string, value func() float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("kubelet_running_pods", "Number of pods that have a running pod sandbox", func() float64 {
		n := 0
		for _, w := range k.all() {
			if slices.ContainsFunc(w.view.Load().runtime.Sandboxes, func(s pod.Sandbox) bool { return s.Ready }) {
				n++
			}
		}
		return float64(n)
	})
	gauge("kubelet_running_containers", "Number of containers currently running", func() float64 {
		n := 0
		for _, w := range k.all() {
			for _, c := range w.view.Load().runtime.Containers {
				if c.State == pod.Running {
					n++
				}
			}
		}
		return float64(n)
	})
	gauge("kubelet_desired_pods", "Number of pods that this node is to run", func() float64 { return float64(len(k.all())) })
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kubelet_node_name", Help: "The node's name. The count is always 1.", ConstLabels: prometheus.Labels{"node": k.config.NodeName},
	}, func() float64 { return 1 }))
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// exposition writes metrics in the text format.
type exposition struct{ b strings.Builder }

func (e *exposition) head(name, kind, help string) {
	fmt.Fprintf(&e.b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// labels are written in the order given: name, value, name, value.
func (e *exposition) line(name string, value float64, at time.Time, labels ...string) {
	e.b.WriteString(name)
	if len(labels) > 0 {
		e.b.WriteByte('{')
		for i := 0; i+1 < len(labels); i += 2 {
			if i > 0 {
				e.b.WriteByte(',')
			}
			fmt.Fprintf(&e.b, "%s=%q", labels[i], labels[i+1])
		}
		e.b.WriteByte('}')
	}
	fmt.Fprintf(&e.b, " %g", value)
	if !at.IsZero() {
		fmt.Fprintf(&e.b, " %d", at.UnixMilli())
	}
	e.b.WriteByte('\n')
}

func (e *exposition) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write([]byte(e.b.String())) //nolint:errcheck // the client is gone
}

// resourceMetrics serve the metrics API: processor and memory of node, pods and containers.
func (k *Kubelet) resourceMetrics(w http.ResponseWriter, r *http.Request) {
	var e exposition
	summary, err := k.summary(r.Context(), "true")
	if err != nil {
		e.head("resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise")
		e.line("resource_scrape_error", 1, time.Time{})
		e.write(w)
		return
	}
	seconds := func(ns *uint64) float64 { return float64(*ns) / 1e9 }
	each := func(name, kind, help string, f func(p *stats.PodStats, c *stats.ContainerStats)) {
		e.head(name, kind, help)
		for i := range summary.Pods {
			for j := range summary.Pods[i].Containers {
				f(&summary.Pods[i], &summary.Pods[i].Containers[j])
			}
		}
	}
	each("container_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the container in core-seconds", func(p *stats.PodStats, c *stats.ContainerStats) {
		e.line("container_cpu_usage_seconds_total", seconds(c.CPU.UsageCoreNanoSeconds), c.CPU.Time.Time, "container", c.Name, "namespace", p.PodRef.Namespace, "pod", p.PodRef.Name)
	})
	each("container_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the container in bytes", func(p *stats.PodStats, c *stats.ContainerStats) {
		e.line("container_memory_working_set_bytes", float64(*c.Memory.WorkingSetBytes), c.Memory.Time.Time, "container", c.Name, "namespace", p.PodRef.Namespace, "pod", p.PodRef.Name)
	})
	each("container_start_time_seconds", "gauge", "[STABLE] Start time of the container since unix epoch in seconds", func(p *stats.PodStats, c *stats.ContainerStats) {
		e.line("container_start_time_seconds", float64(c.StartTime.UnixNano())/1e9, time.Time{}, "container", c.Name, "namespace", p.PodRef.Namespace, "pod", p.PodRef.Name)
	})
	n := &summary.Node
	e.head("node_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the node in core-seconds")
	e.line("node_cpu_usage_seconds_total", seconds(n.CPU.UsageCoreNanoSeconds), n.CPU.Time.Time)
	e.head("node_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the node in bytes")
	e.line("node_memory_working_set_bytes", float64(*n.Memory.WorkingSetBytes), n.Memory.Time.Time)
	e.head("pod_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the pod in core-seconds")
	for i := range summary.Pods {
		p := &summary.Pods[i]
		e.line("pod_cpu_usage_seconds_total", seconds(p.CPU.UsageCoreNanoSeconds), p.CPU.Time.Time, "namespace", p.PodRef.Namespace, "pod", p.PodRef.Name)
	}
	e.head("pod_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the pod in bytes")
	for i := range summary.Pods {
		p := &summary.Pods[i]
		e.line("pod_memory_working_set_bytes", float64(*p.Memory.WorkingSetBytes), p.Memory.Time.Time, "namespace", p.PodRef.Namespace, "pod", p.PodRef.Name)
	}
	e.head("resource_scrape_error", "gauge", "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise")
	e.line("resource_scrape_error", 0, time.Time{})
	e.write(w)
}

// cadvisorMetrics serve the few of cAdvisor's metrics that dashboards ask for.
func (k *Kubelet) cadvisorMetrics(w http.ResponseWriter, r *http.Request) {
	summary, err := k.summary(r.Context(), "true")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	images := map[string]string{}
	ids := map[string]string{}
	for _, worker := range k.all() {
		for _, c := range worker.view.Load().runtime.Containers {
			if c.State == pod.Running {
				images[string(worker.uid)+"/"+c.Name], ids[string(worker.uid)+"/"+c.Name] = c.Image, c.ID
			}
		}
	}
	var e exposition
	e.head("machine_cpu_cores", "gauge", "Number of logical CPU cores.")
	e.line("machine_cpu_cores", float64(k.machine.cpus), time.Time{}, "boot_id", k.machine.info.BootID, "machine_id", k.machine.info.MachineID, "system_uuid", k.machine.info.SystemUUID)
	e.head("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.")
	e.line("machine_memory_bytes", float64(k.machine.memory), time.Time{}, "boot_id", k.machine.info.BootID, "machine_id", k.machine.info.MachineID, "system_uuid", k.machine.info.SystemUUID)
	metric := func(name, kind, help string, value func(c *stats.ContainerStats) *uint64, scale float64) {
		e.head(name, kind, help)
		for i := range summary.Pods {
			p := &summary.Pods[i]
			for j := range p.Containers {
				c := &p.Containers[j]
				key := p.PodRef.UID + "/" + c.Name
				if v := value(c); v != nil {
					e.line(name, float64(*v)*scale, c.CPU.Time.Time, "container", c.Name, "id", "/kubepods/pod"+p.PodRef.UID+"/"+ids[key], "image", images[key],
						"name", ids[key], "namespace", p.PodRef.Namespace, "pod", p.PodRef.Name)
				}
			}
		}
	}
	metric("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", func(c *stats.ContainerStats) *uint64 { return c.CPU.UsageCoreNanoSeconds }, 1e-9)
	metric("container_memory_usage_bytes", "gauge", "Current memory usage in bytes.", func(c *stats.ContainerStats) *uint64 { return c.Memory.UsageBytes }, 1)
	metric("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", func(c *stats.ContainerStats) *uint64 { return c.Memory.WorkingSetBytes }, 1)
	metric("container_memory_rss", "gauge", "Size of RSS in bytes.", func(c *stats.ContainerStats) *uint64 { return c.Memory.RSSBytes }, 1)
	e.write(w)
}

// probeCounts counts probe results; its zero value is ready.
type probeCounts struct {
	mu     sync.Mutex
	counts map[probeCount]uint64
}

type probeCount struct {
	kind, result, container, pod, namespace, uid string
}

func (c *probeCounts) count(kind string, result probeResult, container string, p *corev1.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[probeCount]uint64{}
	}
	c.counts[probeCount{kind, result.String(), container, p.Name, p.Namespace, string(p.UID)}]++
}

// forget drops the counts of a pod that is gone.
func (c *probeCounts) forget(uid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.counts, func(k probeCount, _ uint64) bool { return k.uid == uid })
}

func (k *Kubelet) probeMetrics(w http.ResponseWriter, _ *http.Request) {
	var e exposition
	e.head("prober_probe_total", "counter", "Cumulative number of a liveness, readiness or startup probe for a container by result.")
	c := &k.prober.metrics
	c.mu.Lock()
	for n, count := range c.counts {
		e.line("prober_probe_total", float64(count), time.Time{}, "container", n.container, "namespace", n.namespace, "pod", n.pod, "pod_uid", n.uid,
			"probe_type", n.kind, "result", n.result)
	}
	c.mu.Unlock()
	e.write(w)
}
