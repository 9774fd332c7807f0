// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"kogge.dev/kogge/scheduler/core"
	"kogge.dev/kogge/scheduler/plugins"
)

// model is the cluster as a naive reader of the objects sees it.
type model struct {
	nodes  map[string]*corev1.Node
	placed map[string]*corev1.Pod // by pod name
}

func milli(pod *corev1.Pod) int64 {
	return pod.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
}

func (m *model) on(node string) (pods []*corev1.Pod) {
	for _, p := range m.placed {
		if p.Spec.NodeName == node {
			pods = append(pods, p)
		}
	}
	return pods
}

// fits judges by the plainest means whether a pod may go to a node.
func (m *model) fits(pod *corev1.Pod, node *corev1.Node) bool {
	if node.Spec.Unschedulable || len(node.Spec.Taints) > 0 && len(pod.Spec.Tolerations) == 0 {
		return false
	}
	for key, value := range pod.Spec.NodeSelector {
		if node.Labels[key] != value {
			return false
		}
	}
	others := m.on(node.Name)
	used := int64(0)
	for _, p := range others {
		used += milli(p)
		for _, a := range p.Spec.Containers[0].Ports {
			for _, b := range pod.Spec.Containers[0].Ports {
				if a.HostPort == b.HostPort {
					return false
				}
			}
		}
	}
	wanted := milli(pod)
	return int64(len(others))+1 <= node.Status.Allocatable.Pods().Value() &&
		(wanted == 0 || used+wanted <= node.Status.Allocatable.Cpu().MilliValue())
}

// check compares what each node counts with the pods that are on it.
func (m *model) check(t *rapid.T, snapshot *core.Snapshot) {
	for _, node := range snapshot.Nodes {
		used := int64(0)
		for _, pod := range m.on(node.Name) {
			used += milli(pod)
		}
		if node.Requested.MilliCPU != used || len(node.Pods) != len(m.on(node.Name)) {
			t.Fatalf("%s counts %d pods and %dm, want %d and %dm", node.Name, len(node.Pods), node.Requested.MilliCPU, len(m.on(node.Name)), used)
		}
	}
}

func randomNode(t *rapid.T, name string) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		corev1.LabelHostname: name, "zone": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "zone"),
	}}}
	node.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU:  *resource.NewMilliQuantity(rapid.Int64Range(0, 3000).Draw(t, "cpu"), resource.DecimalSI),
		corev1.ResourcePods: *resource.NewQuantity(rapid.Int64Range(0, 5).Draw(t, "max pods"), resource.DecimalSI),
	}
	node.Spec.Unschedulable = rapid.IntRange(0, 4).Draw(t, "cordon") == 0
	if rapid.IntRange(0, 4).Draw(t, "taint") == 0 {
		node.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
	}
	return node
}

func randomPod(t *rapid.T, name string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	c := corev1.Container{Name: "c"}
	if cpu := rapid.SampledFrom([]int64{0, 100, 500, 1000, 2500}).Draw(t, "request"); cpu > 0 {
		c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(cpu, resource.DecimalSI)}
	}
	if rapid.IntRange(0, 3).Draw(t, "port") == 0 {
		c.Ports = []corev1.ContainerPort{{HostPort: rapid.Int32Range(80, 81).Draw(t, "host port")}}
	}
	pod.Spec.Containers = []corev1.Container{c}
	if rapid.IntRange(0, 3).Draw(t, "tolerates") == 0 {
		pod.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule, Key: "k"}}
	}
	if rapid.IntRange(0, 3).Draw(t, "selects") == 0 {
		pod.Spec.NodeSelector = map[string]string{"zone": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "selected")}
	}
	return pod
}

// TestAgainstNaiveOracle runs random histories: no pod goes where it does not fit, none is refused that fits somewhere,
// and none is forgotten that a change made fit.
func TestAgainstNaiveOracle(t *testing.T) {
	profile, err := plugins.Profile("default-scheduler", plugins.Config{}, plugins.Everything)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		m := &model{nodes: map[string]*corev1.Node{}, placed: map[string]*corev1.Pod{}}
		state, queue := core.NewState(), core.NewQueue(core.QueueConfig{})
		var memory core.Memory
		now := time.Unix(0, 0)
		waiting := map[string]*corev1.Pod{}
		moved := func(events []core.Event) {
			for _, e := range events {
				queue.Moved(e, now)
			}
		}
		schedule := func() {
			for p := queue.Pop(now); p != nil; p = queue.Pop(now) {
				d := profile.Schedule(state.Snapshot(), p.Pod, &memory)
				if d.Fit != nil {
					for _, node := range m.nodes {
						if m.fits(p.Pod.Pod, node) {
							t.Fatalf("%s refused (%s) though it fits %s", p.Name, d.Fit.Error(), node.Name)
						}
					}
					queue.Failed(p.UID, d.Fit.Plugins, now)
					continue
				}
				if !m.fits(p.Pod.Pod, m.nodes[d.Node]) {
					t.Fatalf("%s goes to %s, where it does not fit", p.Name, d.Node)
				}
				state.Assume(p.Pod, d.Node, d.Plan)
				if rapid.IntRange(0, 5).Draw(t, "binding breaks") == 0 {
					moved(state.Forget(p.UID, d.Plan))
					queue.Retry(p.UID, now)
					continue
				}
				bound := p.DeepCopy()
				bound.Spec.NodeName = d.Node
				m.placed[p.Name] = bound
				delete(waiting, p.Name)
				queue.Drop(p.UID)
				moved(state.PutPod(bound))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"node": func(t *rapid.T) {
				name := fmt.Sprintf("node-%d", rapid.IntRange(0, 3).Draw(t, "node"))
				if known := m.nodes[name]; known != nil && len(m.on(name)) > 0 {
					next := known.DeepCopy() // a node that has pods keeps its size
					next.Spec.Unschedulable = !next.Spec.Unschedulable
					m.nodes[name] = next
				} else {
					m.nodes[name] = randomNode(t, name)
				}
				moved(state.PutNode(m.nodes[name]))
			},
			"no node": func(t *rapid.T) {
				name := fmt.Sprintf("node-%d", rapid.IntRange(0, 3).Draw(t, "node"))
				for _, pod := range m.on(name) {
					delete(m.placed, pod.Name)
					moved(state.DropPod(pod.UID))
				}
				delete(m.nodes, name)
				moved(state.DropNode(name))
			},
			"pod": func(t *rapid.T) {
				name := fmt.Sprintf("pod-%d", rapid.IntRange(0, 15).Draw(t, "pod"))
				if m.placed[name] != nil || waiting[name] != nil {
					return
				}
				waiting[name] = randomPod(t, name)
				queue.Put(core.NewPod(waiting[name]), profile, now)
			},
			"no pod": func(t *rapid.T) {
				name := fmt.Sprintf("pod-%d", rapid.IntRange(0, 15).Draw(t, "pod"))
				queue.Drop(types.UID(name))
				moved(state.DropPod(types.UID(name)))
				delete(m.placed, name)
				delete(waiting, name)
			},
			"schedule": func(*rapid.T) { schedule() },
			"":         func(t *rapid.T) { m.check(t, state.Snapshot()) },
		})
		// Once every backoff is over, whoever fits has been woken.
		for range 10 {
			now = now.Add(20 * time.Second)
			schedule()
		}
		for _, pod := range waiting {
			fitting := slices.ContainsFunc(slices.Collect(maps.Values(m.nodes)), func(n *corev1.Node) bool { return m.fits(pod, n) })
			if fitting {
				t.Fatalf("%s waits though it fits", pod.Name)
			}
		}
	})
}
