// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Verb says what an Action does.
type Verb uint8

// The actions. Each runs once at a time per key; its end is reported with Done.
const (
	// Prepare makes the pod's folders and cgroup and mounts its volumes. It is idempotent.
	Prepare Verb = iota
	// CreateSandbox runs a sandbox with Attempt.
	CreateSandbox
	// StopSandbox stops ID: network released, remaining processes killed.
	StopSandbox
	// RemoveSandbox removes ID and its containers.
	RemoveSandbox
	// StartContainer pulls, creates and starts Container in sandbox SandboxID and runs its postStart hook.
	StartContainer
	// PreStop runs the hook of Container in ID, for at most Grace.
	PreStop
	// StopContainer stops ID within Grace.
	StopContainer
	// RemoveContainer removes ID, which does not run.
	RemoveContainer
	// Resize applies the resources of Container to ID.
	Resize
	// Release unmounts volumes and removes the cgroup.
	Release
	// Forget removes folders and logs: the pod is over.
	Forget
)

func (v Verb) String() string {
	return [...]string{
		"Prepare", "CreateSandbox", "StopSandbox", "RemoveSandbox", "StartContainer", "PreStop", "StopContainer", "RemoveContainer", "Resize",
		"Release", "Forget",
	}[v]
}

// Action is one thing to do. Which fields hold follows from Verb.
type Action struct {
	Verb Verb
	// Key names the action for Done; no two actions in flight share one.
	Key string
	// ID is a container's or sandbox's.
	ID        string
	SandboxID string
	Container *corev1.Container
	Kind      Kind
	// Attempt is the sandbox's number, or the container's restart count.
	Attempt int32
	// Target is the id of the container whose process namespace an ephemeral container joins.
	Target string
	Grace  time.Duration
	// Previous is the id of the sandbox that CreateSandbox replaces, if any.
	Previous string
}

// Event is something to tell the user about the pod.
type Event struct {
	// Type is Normal or Warning.
	Type, Reason, Message string
	// Container is the container concerned, or empty.
	Container string
}

// Probe asks for one probe to run against a container instance.
type Probe struct {
	ID        string
	Container *corev1.Container
	Kind      ProbeKind
	Spec      *corev1.Probe
	// Initial is the standing to start from.
	Initial   Result
	StartedAt time.Time
}

// Decision is what Decide wants done.
type Decision struct {
	Actions []Action
	Events  []Event
	// Probes are all that should be running now.
	Probes []Probe
	// Status is to be reported.
	Status *corev1.PodStatus
	// Wake is when Decide must be called again even if nothing happens; zero means never.
	Wake time.Time
	// Stage is the pod's after this decision.
	Stage Stage
	// Clean is set once the pod holds nothing of the node: its API object may be deleted.
	Clean bool
}

func (d *Decision) wake(t time.Time) {
	if d.Wake.IsZero() || t.Before(d.Wake) {
		d.Wake = t
	}
}

func (d *Decision) event(kind, reason, message, container string) {
	d.Events = append(d.Events, Event{Type: kind, Reason: reason, Message: message, Container: container})
}

// Waiting reasons, as the API shows them.
const (
	ReasonCrashLoop        = "CrashLoopBackOff"
	ReasonErrImagePull     = "ErrImagePull"
	ReasonImagePullBackOff = "ImagePullBackOff"
	ReasonConfigError      = "CreateContainerConfigError"
	ReasonCreateError      = "CreateContainerError"
	ReasonRunError         = "RunContainerError"
	ReasonPostStartError   = "PostStartHookError"
)

// Outcome is how an action ended.
type Outcome struct {
	// Err is nil on success.
	Err error
	// Reason is a waiting reason, for a failed StartContainer.
	Reason string
	// Message is shown with the reason; the error's text if empty.
	Message string
	// Image is the image that could not be pulled.
	Image string
}

// failure remembers that something went wrong and until when it is left alone.
type failure struct {
	reason, message string
	image           string
	until           time.Time
	count           int
	at              time.Time
}

// backoff is a doubling delay per key, reset once nothing failed for twice the longest delay.
type backoff struct {
	delay time.Duration
	last  time.Time
}

const firstBackoff = 10 * time.Second

func (b *backoff) next(event, now time.Time, longest time.Duration) {
	if b.delay == 0 || event.Sub(b.last) > 2*longest {
		b.delay = min(firstBackoff, longest)
	} else {
		b.delay = min(2*b.delay, longest)
	}
	b.last = now
}

// until returns when the delay after an event at that time is over; zero if there is none.
func (b *backoff) until(event time.Time, longest time.Duration) time.Time {
	if b == nil || b.delay == 0 || event.Sub(b.last) > 2*longest {
		return time.Time{}
	}
	return event.Add(b.delay)
}

func (m *Machine) busy(key string) bool { return m.running[key] }

// do emits an action unless it is in flight.
func (m *Machine) do(d *Decision, a Action) {
	if m.running[a.Key] {
		return
	}
	m.running[a.Key] = true
	d.Actions = append(d.Actions, a)
}

// busyWith reports whether an action of the verb is in flight.
func (m *Machine) busyWith(verb Verb) bool {
	prefix := verb.String()
	for key := range m.running {
		if key == prefix || len(key) > len(prefix) && key[:len(prefix)] == prefix && key[len(prefix)] == '/' {
			return true
		}
	}
	return false
}

// key names an action; arg is the container's name for starts, else an id.
func key(verb Verb, arg string) string {
	if arg == "" {
		return verb.String()
	}
	return verb.String() + "/" + arg
}

// Done reports the end of an action.
func (m *Machine) Done(a Action, o Outcome, now time.Time) {
	delete(m.running, a.Key)
	switch a.Verb {
	case Prepare:
		m.prepared = o.Err == nil
		m.setupDone(o, now)
	case CreateSandbox:
		m.setupDone(o, now)
	case StartContainer:
		m.startDone(a, o, now)
	case PreStop:
		if k := m.kills[a.ID]; k != nil {
			k.hook = hookDone
		}
	case StopContainer:
		if k := m.kills[a.ID]; k != nil && o.Err != nil {
			k.sent, k.retry = false, now.Add(2*time.Second)
		}
	case Release:
		m.cleaned = o.Err == nil
		m.setupDone(o, now)
	case Resize:
		m.resizeDone(a, o, now)
	case StopSandbox, RemoveSandbox, RemoveContainer, Forget:
		m.setupDone(o, now)
	}
}

// setupDone delays the pod's next set-up step after a failure: 0.5 s doubling to 15 s.
func (m *Machine) setupDone(o Outcome, now time.Time) {
	if o.Err == nil {
		m.setup = failure{}
		return
	}
	m.setup.count++
	delay := min(500*time.Millisecond<<min(m.setup.count-1, 6), 15*time.Second)
	m.setup.until, m.setup.message = now.Add(delay), o.Err.Error()
}

func (m *Machine) startDone(a Action, o Outcome, now time.Time) {
	name := a.Container.Name
	if o.Err == nil {
		delete(m.failures, name)
		delete(m.pulls, a.Container.Image)
		m.actuated[name] = a.Container.Resources
		return
	}
	f := m.failures[name]
	if f == nil {
		f = &failure{}
		m.failures[name] = f
	}
	f.count++
	f.reason, f.message, f.image, f.at = o.Reason, o.Message, o.Image, now
	if f.message == "" {
		f.message = o.Err.Error()
	}
	switch o.Reason {
	case ReasonErrImagePull:
		b := m.pulls[o.Image]
		if b == nil {
			b = &backoff{}
			m.pulls[o.Image] = b
		}
		b.next(now, now, 5*time.Minute)
		f.until = now.Add(b.delay)
	case ReasonRunError, ReasonPostStartError:
		f.until = now // the container exited: the crash-loop delay holds
	default:
		f.until = now.Add(min(time.Second<<min(f.count-1, 4), 10*time.Second))
	}
}
