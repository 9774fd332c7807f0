// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// world is a machine and a runtime that does what it is told.
type world struct {
	m       *Machine
	start   time.Time
	now     time.Time
	runtime Runtime
	flying  map[string]Action
}

// TestScenarios runs the life cycles in testdata. Commands:
//
//	pod [static]          a new pod, from YAML
//	ok KEY...             the actions succeed, and the runtime changes accordingly
//	fail KEY [reason=] [image=] TEXT   an action fails
//	exit ID code=N        a container's process ends
//	lose ID               a sandbox's process ends
//	probe ID KIND RESULT  a probe's standing changes
//	delete [grace=N]      the object gets a deletion timestamp
//	end reason= [grace=N] the node ends the pod
//	remove                the source lets go of the pod
//	update                a changed specification, from YAML
//	restart               a new machine takes over, knowing only the reported status and the runtime
//	after D               time passes
//
// Each prints what the machine decides then.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := &world{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return w.run(t, d) })
	})
}

func (w *world) run(t *testing.T, d *datadriven.TestData) string { //nolint:funlen // one case per command
	switch d.Cmd {
	case "pod":
		p := w.parse(t, d.Input)
		w.start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		w.now, w.flying, w.runtime = w.start, map[string]Action{}, Runtime{}
		w.m = New(Config{RuntimeName: "r", HostIPs: []string{"192.0.2.1"}, QOS: corev1.PodQOSBurstable, Static: d.HasArg("static")}, p)
	case "ok":
		for _, arg := range d.CmdArgs {
			w.finish(t, arg.Key, Outcome{})
		}
	case "fail":
		o := Outcome{Err: errors.New(strings.TrimSpace(d.Input))}
		maybe(t, d, "reason", &o.Reason)
		maybe(t, d, "image", &o.Image)
		w.finish(t, d.CmdArgs[0].Key, o)
	case "exit":
		c := w.container(t, d.CmdArgs[0].Key)
		var code int
		d.ScanArgs(t, "code", &code)
		c.State, c.ExitCode, c.FinishedAt, c.Reason = Exited, int32(code), w.now, "Error"
		if code == 0 {
			c.Reason = "Completed"
		}
	case "lose":
		for i := range w.runtime.Sandboxes {
			if w.runtime.Sandboxes[i].ID == d.CmdArgs[0].Key {
				w.runtime.Sandboxes[i].Ready = false
			}
		}
	case "probe":
		result := map[string]Result{"Success": Success, "Failure": Failure}[d.CmdArgs[2].Key]
		w.m.Probed(d.CmdArgs[0].Key, ProbeKind(d.CmdArgs[1].Key), result)
	case "delete":
		p := w.m.Pod().DeepCopy()
		at := metav1.NewTime(w.now)
		grace := int64(30)
		if g := p.Spec.TerminationGracePeriodSeconds; g != nil {
			grace = *g
		}
		maybe(t, d, "grace", &grace)
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &at, &grace
		w.m.SetPod(p)
	case "end":
		end := End{Message: "message"}
		d.ScanArgs(t, "reason", &end.Reason)
		grace := -1
		if maybe(t, d, "grace", &grace); grace >= 0 {
			g := time.Duration(grace) * time.Second
			end.Grace = &g
		}
		end.Rejected = d.HasArg("rejected")
		w.m.Terminate(end)
	case "remove":
		w.m.Remove()
	case "update":
		w.m.SetPod(w.parse(t, d.Input))
	case "restart":
		p := w.m.Pod().DeepCopy()
		p.Status = *w.m.status.DeepCopy()
		w.m, w.flying = New(w.m.config, p), map[string]Action{}
	case "after":
		span, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(span)
	default:
		t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	}
	w.m.Observe(w.runtime)
	return w.print(w.m.Decide(w.now))
}

// maybe scans an argument that need not be there.
func maybe(t *testing.T, d *datadriven.TestData, name string, into any) {
	t.Helper()
	if d.HasArg(name) {
		d.ScanArgs(t, name, into)
	}
}

func (w *world) parse(t *testing.T, text string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(text), &p.Spec); err != nil {
		t.Fatal(err)
	}
	p.Name, p.Namespace, p.UID, p.Generation = "p", "ns", "u", 1
	if p.Spec.RestartPolicy == "" {
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	}
	return p
}

func (w *world) container(t *testing.T, id string) *Container {
	t.Helper()
	for i := range w.runtime.Containers {
		if w.runtime.Containers[i].ID == id {
			return &w.runtime.Containers[i]
		}
	}
	t.Fatalf("no container %s", id)
	return nil
}

// finish reports an action's end, after the runtime did it.
func (w *world) finish(t *testing.T, key string, o Outcome) {
	t.Helper()
	a, ok := w.flying[key]
	if !ok {
		t.Fatalf("no action %s in flight", key)
	}
	delete(w.flying, key)
	if o.Err == nil {
		w.carryOut(t, a)
	}
	w.m.Done(a, o, w.now)
}

func (w *world) carryOut(t *testing.T, a Action) {
	t.Helper()
	switch a.Verb {
	case CreateSandbox:
		w.runtime.Sandboxes = append(w.runtime.Sandboxes, Sandbox{
			ID: fmt.Sprintf("s%d", a.Attempt), Attempt: uint32(a.Attempt), Ready: true, CreatedAt: w.now.Add(time.Duration(a.Attempt)), IPs: []string{"10.0.0.1"},
		})
	case StopSandbox:
		for i := range w.runtime.Sandboxes {
			if w.runtime.Sandboxes[i].ID == a.ID {
				w.runtime.Sandboxes[i].Ready = false
			}
		}
	case RemoveSandbox:
		w.runtime.Sandboxes = slices.DeleteFunc(w.runtime.Sandboxes, func(s Sandbox) bool { return s.ID == a.ID })
		w.runtime.Containers = slices.DeleteFunc(w.runtime.Containers, func(c Container) bool { return c.SandboxID == a.ID })
	case StartContainer:
		w.runtime.Containers = append(w.runtime.Containers, Container{
			ID: fmt.Sprintf("%s%d", a.Container.Name, a.Attempt), Name: a.Container.Name, Attempt: a.Attempt, SandboxID: a.SandboxID, State: Running,
			Hash: Hash(a.Container), CreatedAt: w.now.Add(time.Duration(a.Attempt)), StartedAt: w.now, Image: a.Container.Image, ImageRef: "ref",
		})
	case StopContainer:
		c := w.container(t, a.ID)
		if c.State == Running {
			c.State, c.ExitCode, c.FinishedAt, c.Reason = Exited, 143, w.now, "Error"
		}
	case RemoveContainer:
		w.runtime.Containers = slices.DeleteFunc(w.runtime.Containers, func(c Container) bool { return c.ID == a.ID })
	case Prepare, PreStop, Resize, Release, Forget:
	}
}

func (w *world) print(d *Decision) string {
	var b strings.Builder
	for _, e := range d.Events {
		fmt.Fprintf(&b, "event %s %s: %s\n", e.Type, e.Reason, e.Message)
	}
	for _, a := range d.Actions {
		w.flying[a.Key] = a
		fmt.Fprintf(&b, "do %s", a.Key)
		switch a.Verb {
		case CreateSandbox, StartContainer:
			fmt.Fprintf(&b, " attempt=%d", a.Attempt)
		case PreStop:
			fmt.Fprintf(&b, " within=%s", a.Grace)
		default:
		}
		if a.Target != "" {
			fmt.Fprintf(&b, " target=%s", a.Target)
		}
		b.WriteByte('\n')
	}
	for _, p := range d.Probes {
		fmt.Fprintf(&b, "probing %s %s\n", p.ID, p.Kind)
	}
	fmt.Fprintf(&b, "%s %s", [...]string{"syncing", "terminating", "terminated"}[d.Stage], d.Status.Phase)
	if d.Status.Reason != "" {
		fmt.Fprintf(&b, " (%s)", d.Status.Reason)
	}
	for _, c := range d.Status.Conditions {
		if c.Type != corev1.PodScheduled && c.Status == corev1.ConditionTrue {
			fmt.Fprintf(&b, " %s", c.Type)
		}
	}
	if d.Clean {
		b.WriteString(" clean")
	}
	if w.m.Resizing() {
		b.WriteString(" resizing")
	}
	if !d.Wake.IsZero() {
		fmt.Fprintf(&b, " wake=+%s", d.Wake.Sub(w.now))
	}
	b.WriteByte('\n')
	for _, list := range [][]corev1.ContainerStatus{d.Status.InitContainerStatuses, d.Status.ContainerStatuses, d.Status.EphemeralContainerStatuses} {
		for i := range list {
			printStatus(&b, &list[i])
		}
	}
	return b.String()
}

func printStatus(b *strings.Builder, s *corev1.ContainerStatus) {
	fmt.Fprintf(b, "  %s: %s", s.Name, printState(&s.State))
	if s.LastTerminationState.Terminated != nil {
		fmt.Fprintf(b, ", last %s", printState(&s.LastTerminationState))
	}
	if s.RestartCount > 0 {
		fmt.Fprintf(b, ", restarts=%d", s.RestartCount)
	}
	if s.Started != nil && *s.Started && !s.Ready {
		b.WriteString(", started")
	}
	if s.Ready {
		b.WriteString(", ready")
	}
	b.WriteByte('\n')
}

func printState(s *corev1.ContainerState) string {
	switch {
	case s.Running != nil:
		return "running"
	case s.Terminated != nil:
		return fmt.Sprintf("%s(%d)", s.Terminated.Reason, s.Terminated.ExitCode)
	case s.Waiting != nil && s.Waiting.Message != "":
		return fmt.Sprintf("waiting %s: %s", s.Waiting.Reason, s.Waiting.Message)
	case s.Waiting != nil:
		return "waiting " + s.Waiting.Reason
	}
	return "nothing"
}

func TestHashFollowsNameAndImageOnly(t *testing.T) {
	a := &corev1.Container{Name: "c", Image: "i:1", Command: []string{"x"}}
	b := a.DeepCopy()
	b.Command = nil
	if Hash(a) != Hash(b) {
		t.Errorf("Hash differs for another command")
	}
	b.Image = "i:2"
	if Hash(a) == Hash(b) {
		t.Errorf("Hash is the same for another image")
	}
}
