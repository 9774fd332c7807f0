// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/scheduler/core"
	"kogge.dev/kogge/scheduler/plugins"
)

// BenchmarkSchedule measures one decision, its assumption included, on 5,000 nodes in 50 zones.
func BenchmarkSchedule(b *testing.B) {
	shapes := map[string]func(*corev1.Pod){
		"basic": func(*corev1.Pod) {},
		"spread": func(p *corev1.Pod) {
			p.Labels = map[string]string{"app": "web"}
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
				MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule,
				LabelSelector: &metav1.LabelSelector{MatchLabels: p.Labels},
			}}
		},
		"anti-affinity": func(p *corev1.Pod) {
			p.Labels = map[string]string{"app": "one"}
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
					TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: p.Labels},
				}},
			}}
		},
	}
	shapes["anti-affinity, labels of its own"] = func(p *corev1.Pod) {
		shapes["anti-affinity"](p)
		p.Labels = map[string]string{"app": "one", "pod": p.Name} // as a StatefulSet's pods have
	}
	for _, name := range []string{"basic", "spread", "anti-affinity", "anti-affinity, labels of its own"} {
		b.Run(name, func(b *testing.B) { benchmark(b, shapes[name]) })
	}
}

func benchmark(b *testing.B, change func(*corev1.Pod)) {
	b.ReportAllocs()
	profile, err := plugins.Profile("default-scheduler", plugins.Config{}, plugins.Everything)
	if err != nil {
		b.Fatal(err)
	}
	state := core.NewState()
	for i := range 5000 {
		name := fmt.Sprintf("node-%d", i)
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname: name, "zone": fmt.Sprintf("zone-%d", i%50),
		}}}
		node.Status.Allocatable = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("32Gi"), corev1.ResourcePods: resource.MustParse("110"),
		}
		state.PutNode(node)
	}
	var memory core.Memory
	var placed []types.UID
	for i := 0; b.Loop(); i++ {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("pod-%d", i), UID: types.UID(fmt.Sprint(i))}}
		pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "image", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("500Mi"),
		}}}}
		change(pod)
		parsed := core.NewPod(pod)
		d := profile.Schedule(state.Snapshot(), parsed, &memory)
		if d.Node == "" {
			b.Fatal(d.Fit)
		}
		state.Assume(parsed, d.Node, d.Plan)
		if placed = append(placed, pod.UID); len(placed) > 4000 {
			state.DropPod(placed[0])
			placed = placed[1:]
		}
	}
}
