// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/scheduler/core"
	"kogge.dev/kogge/scheduler/plugins"
)

// world drives a core as the driver does, with the time that the script says.
//
//	node NAME [cpu=4] [memory=8Gi] [pods=110] [labels=(a=b,c=d)] [taint=k=v:Effect] [unschedulable]   and YAML of a Node
//	pod NAME [cpu=] [memory=] [priority=] [labels=(a=b)] [on=NODE]                                     and YAML of a Pod
//	put KIND             YAML of another object
//	schedule             try every pod that may be tried now
//	delete NAME | delete-node NAME
//	advance 10s
//	queue                how many pods wait where
type world struct {
	t       *testing.T
	now     time.Time
	state   *core.State
	queue   *core.Queue
	profile *core.Profile
	memory  core.Memory
	pods    map[string]*corev1.Pod
}

func newWorld(t *testing.T) *world {
	t.Helper()
	profile, err := plugins.Profile("default-scheduler", plugins.Config{}, plugins.Everything)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, now: time.Unix(1_700_000_000, 0), state: core.NewState(), queue: core.NewQueue(core.QueueConfig{}), profile: profile,
		pods: map[string]*corev1.Pod{},
	}
	w.state.Objects().Put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: map[string]string{"team": "a"}}})
	return w
}

func (w *world) moved(events []core.Event) {
	for _, e := range events {
		w.queue.Moved(e, w.now)
	}
}

func TestCore(t *testing.T) {
	datadriven.Walk(t, "testdata/script", func(t *testing.T, path string) {
		w := newWorld(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			w.t = t
			switch d.Cmd {
			case "node":
				w.moved(w.state.PutNode(w.node(d)))
			case "pod":
				w.putPod(w.pod(d))
			case "put":
				w.put(d)
			case "schedule":
				return w.schedule()
			case "delete":
				w.drop(d.CmdArgs[0].Key)
			case "delete-node":
				w.moved(w.state.DropNode(d.CmdArgs[0].Key))
			case "advance":
				by, err := time.ParseDuration(d.CmdArgs[0].Key)
				if err != nil {
					t.Fatal(err)
				}
				w.now = w.now.Add(by)
			case "queue":
				c := w.queue.Counts()
				return fmt.Sprintf("active %d, backoff %d, unschedulable %d, gated %d", c.Active, c.Backoff, c.Unschedulable, c.Gated)
			default:
				t.Fatalf("no command %q", d.Cmd)
			}
			return ""
		})
	})
}

func arg(d *datadriven.TestData, key, otherwise string) string {
	for _, a := range d.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			return strings.Join(a.Vals, ",")
		}
	}
	return otherwise
}

func labelsOf(text string) map[string]string {
	out := map[string]string{}
	for _, pair := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		key, value, _ := strings.Cut(pair, "=")
		out[key] = value
	}
	return out
}

func quantities(d *datadriven.TestData, defaults map[corev1.ResourceName]string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for _, name := range []corev1.ResourceName{"cpu", "memory", "pods", "ephemeral-storage", "example.com/gpu"} {
		if text := arg(d, string(name), defaults[name]); text != "" {
			list[name] = resource.MustParse(text)
		}
	}
	return list
}

func (w *world) node(d *datadriven.TestData) *corev1.Node {
	name := d.CmdArgs[0].Key
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labelsOf(arg(d, "labels", ""))}}
	node.Labels[corev1.LabelHostname] = name
	node.Status.Allocatable = quantities(d, map[corev1.ResourceName]string{"cpu": "4", "memory": "8Gi", "pods": "110"})
	node.Spec.Unschedulable = d.HasArg("unschedulable")
	if text := arg(d, "taint", ""); text != "" {
		key, effect, _ := strings.Cut(text, ":")
		key, value, _ := strings.Cut(key, "=")
		node.Spec.Taints = []corev1.Taint{{Key: key, Value: value, Effect: corev1.TaintEffect(effect)}}
	}
	w.yaml(d.Input, node)
	return node
}

func (w *world) pod(d *datadriven.TestData) *corev1.Pod {
	name := d.CmdArgs[0].Key
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: name, UID: types.UID("uid-" + name), Labels: labelsOf(arg(d, "labels", "")),
		CreationTimestamp: metav1.NewTime(w.now),
	}}
	pod.Spec.NodeName = arg(d, "on", "")
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "image", Resources: corev1.ResourceRequirements{Requests: quantities(d, nil)}}}
	if text := arg(d, "priority", ""); text != "" {
		var priority int32
		if _, err := fmt.Sscan(text, &priority); err != nil {
			w.t.Fatal(err)
		}
		pod.Spec.Priority = &priority
	}
	w.yaml(d.Input, pod)
	return pod
}

func (w *world) yaml(text string, into any) {
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) put(d *datadriven.TestData) {
	objects := map[string]metav1.Object{
		"claim": &corev1.PersistentVolumeClaim{}, "volume": &corev1.PersistentVolume{}, "class": &storagev1.StorageClass{},
		"csinode": &storagev1.CSINode{}, "budget": &policyv1.PodDisruptionBudget{}, "service": &corev1.Service{}, "namespace": &corev1.Namespace{},
	}
	obj := objects[d.CmdArgs[0].Key]
	if obj == nil {
		w.t.Fatalf("no kind %q", d.CmdArgs[0].Key)
	}
	w.yaml(d.Input, obj)
	w.moved(w.state.Objects().Put(obj))
}

func (w *world) putPod(pod *corev1.Pod) {
	w.pods[pod.Name] = pod
	if pod.Spec.NodeName != "" {
		w.queue.Drop(pod.UID)
		w.moved(w.state.PutPod(pod))
		return
	}
	w.queue.Put(core.NewPod(pod), w.profile, w.now)
}

func (w *world) drop(name string) {
	pod := w.pods[name]
	delete(w.pods, name)
	w.queue.Drop(pod.UID)
	w.moved(w.state.DropPod(pod.UID))
}

// schedule tries what may be tried and carries decisions out as if everything went well at once, but for victims, which
// go when the script says so.
func (w *world) schedule() string {
	var out strings.Builder
	for p := w.queue.Pop(w.now); p != nil; p = w.queue.Pop(w.now) {
		d := w.profile.Schedule(w.state.Snapshot(), p.Pod, &w.memory)
		switch {
		case d.Err != "":
			fmt.Fprintf(&out, "%s: error: %s\n", p.Name, d.Err)
			w.queue.Retry(p.UID, w.now)
		case d.Fit != nil:
			fmt.Fprintf(&out, "%s: %s\n", p.Name, d.Fit.Error())
			w.queue.Failed(p.UID, d.Fit.Plugins, w.now)
			if d.Preemption != nil {
				var names []string
				for _, v := range d.Preemption.Victims {
					names = append(names, v.Name)
				}
				fmt.Fprintf(&out, "%s: preempts %s on %s\n", p.Name, strings.Join(names, " "), d.Preemption.Node)
				w.state.Nominate(p.Pod, p.UID, d.Preemption.Node)
			}
			if d.Clear {
				w.state.Nominate(nil, p.UID, "")
			}
		default:
			fmt.Fprintf(&out, "%s -> %s%s\n", p.Name, d.Node, planText(d.Plan))
			w.state.Assume(p.Pod, d.Node, d.Plan)
			bound := w.pods[p.Name].DeepCopy()
			bound.Spec.NodeName = d.Node
			w.putPod(bound)
		}
	}
	return out.String()
}

func planText(plan *core.Plan) string {
	if plan == nil {
		return ""
	}
	var parts []string
	for _, v := range plan.Volumes {
		parts = append(parts, fmt.Sprintf("volume %s for %s", v.Name, v.Spec.ClaimRef.Name))
	}
	for _, c := range plan.Claims {
		parts = append(parts, fmt.Sprintf("provision %s on %s", c.Name, c.Annotations["volume.kubernetes.io/selected-node"]))
	}
	for _, c := range plan.Await {
		if c.Spec.VolumeName != "" {
			parts = append(parts, "once "+c.Name+" says that it is bound")
		}
	}
	slices.Sort(parts)
	return " (" + strings.Join(parts, ", ") + ")"
}
