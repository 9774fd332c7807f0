// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core_test

import (
	"fmt"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"kogge.dev/kogge/scheduler/core"
	"kogge.dev/kogge/scheduler/plugins"
)

// history is all objects that there were, to tell a state that never saw them before.
type history struct {
	nodes      map[string]*corev1.Node
	pods       map[string]*corev1.Pod
	namespaces map[string]*corev1.Namespace
	// waiting are the pods that wait for room, with the node that they wait for.
	waiting map[string]*corev1.Pod
}

func (h *history) fresh() *core.State {
	s := core.NewState()
	for _, ns := range h.namespaces {
		s.Objects().Put(ns)
	}
	for _, n := range h.nodes {
		s.PutNode(n)
	}
	for _, p := range h.pods {
		s.PutPod(p)
	}
	for _, p := range h.waiting {
		s.Nominate(core.NewPod(p), p.UID, p.Status.NominatedNodeName)
	}
	return s
}

func pick(t *rapid.T, label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }

// neighbourly is a pod with labels, and sometimes with wishes about where others are.
func neighbourly(t *rapid.T, name string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: pick(t, "namespace", "a", "b"), Name: name, UID: types.UID(name), Labels: map[string]string{"app": pick(t, "app", "x", "y")},
	}}
	pod.Spec.Containers = []corev1.Container{{Name: "c"}}
	pod.Spec.Priority = new(rapid.Int32Range(0, 1).Draw(t, "priority"))
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": pick(t, "selects", "x", "y")}}
	key := pick(t, "key", "zone", corev1.LabelHostname)
	term := corev1.PodAffinityTerm{TopologyKey: key, LabelSelector: selector}
	if rapid.Bool().Draw(t, "across namespaces") {
		term.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "one"}}
	}
	weighted := []corev1.WeightedPodAffinityTerm{{Weight: 5, PodAffinityTerm: term}}
	required := []corev1.PodAffinityTerm{term}
	switch pick(t, "wish", "none", "spread", "prefer spread", "apart", "together", "prefer apart", "prefer together") {
	case "spread":
		pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: selector}}
	case "prefer spread":
		pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: selector}}
	case "apart":
		pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required}}
	case "together":
		pod.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required}}
	case "prefer apart":
		pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: weighted}}
	case "prefer together":
		pod.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: weighted}}
	}
	return pod
}

// TestKeptTalliesDecideAsNewOnes runs random histories of one state, which keeps what it counted, and asks it and a state that has just heard
// of everything for the same decisions.
func TestKeptTalliesDecideAsNewOnes(t *testing.T) {
	profile, err := plugins.Profile("default-scheduler", plugins.Config{}, plugins.Everything)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		h := &history{nodes: map[string]*corev1.Node{}, pods: map[string]*corev1.Pod{}, namespaces: map[string]*corev1.Namespace{}, waiting: map[string]*corev1.Pod{}}
		kept := core.NewState()
		t.Repeat(map[string]func(*rapid.T){
			"namespace": func(t *rapid.T) {
				ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: pick(t, "namespace", "a", "b"), Labels: map[string]string{"team": pick(t, "team", "one", "two")}}}
				h.namespaces[ns.Name] = ns
				kept.Objects().Put(ns)
			},
			"node": func(t *rapid.T) {
				name := fmt.Sprintf("node-%d", rapid.IntRange(0, 4).Draw(t, "node"))
				node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
				if zone := pick(t, "zone", "", "a", "b"); zone != "" {
					node.Labels["zone"] = zone
				}
				node.Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("4")}
				h.nodes[name] = node
				kept.PutNode(node)
			},
			"no node": func(t *rapid.T) {
				name := fmt.Sprintf("node-%d", rapid.IntRange(0, 4).Draw(t, "node"))
				delete(h.nodes, name)
				kept.DropNode(name)
			},
			"pod": func(t *rapid.T) {
				pod := neighbourly(t, fmt.Sprintf("pod-%d", rapid.IntRange(0, 9).Draw(t, "pod")))
				pod.Spec.NodeName = fmt.Sprintf("node-%d", rapid.IntRange(0, 4).Draw(t, "on"))
				if rapid.IntRange(0, 5).Draw(t, "terminates") == 0 {
					pod.DeletionTimestamp = new(metav1.Unix(1, 0))
				}
				h.pods[pod.Name] = pod
				kept.PutPod(pod)
			},
			"waiting pod": func(t *rapid.T) {
				pod := neighbourly(t, fmt.Sprintf("waiting-%d", rapid.IntRange(0, 2).Draw(t, "waiting")))
				pod.Status.NominatedNodeName = pick(t, "for", "", "node-0", "node-1", "node-2")
				h.waiting[pod.Name] = pod
				kept.Nominate(core.NewPod(pod), pod.UID, pod.Status.NominatedNodeName)
			},
			"no pod": func(t *rapid.T) {
				name := fmt.Sprintf("pod-%d", rapid.IntRange(0, 9).Draw(t, "pod"))
				delete(h.pods, name)
				kept.DropPod(types.UID(name))
			},
			"": func(t *rapid.T) {
				pod := core.NewPod(neighbourly(t, "new"))
				var one, two core.Memory
				got, want := profile.Schedule(kept.Snapshot(), pod, &one), profile.Schedule(h.fresh().Snapshot(), pod, &two)
				if got.Node != want.Node || got.Err != want.Err || !reflect.DeepEqual(refusal(got), refusal(want)) || !reflect.DeepEqual(victimsOf(got), victimsOf(want)) {
					t.Fatalf("decided %q %s %v, a new state %q %s %v", got.Node, refusal(got), victimsOf(got), want.Node, refusal(want), victimsOf(want))
				}
			},
		})
	})
}

func refusal(d core.Decision) string {
	if d.Fit == nil {
		return ""
	}
	return d.Fit.Error()
}

func victimsOf(d core.Decision) (names []string) {
	if d.Preemption == nil {
		return nil
	}
	for _, v := range d.Preemption.Victims {
		names = append(names, v.Name)
	}
	return append(names, d.Preemption.Node)
}
