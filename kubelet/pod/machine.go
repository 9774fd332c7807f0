// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package pod decides the life of one pod on its node. A Machine is fed with events (the pod's specification, what the runtime
// holds, probe results, finished operations) and answers Decide with what to do now, the status to report and when to be asked
// again. It has no goroutines, locks, clock or I/O, and it keeps nothing that a restart would miss: everything is derived anew
// from the API object and the runtime's containers, but for back-off counters and probe results.
//
//	           deletion, eviction, deadline,
//	           completion, source gone            no container runs,        volumes, cgroup
//	Syncing ───────────────────────────► Terminating ──────────────► Terminated ───────────► (Clean)
//	start what the spec asks for         preStop, stop in order      sandboxes stopped       API object may go;
//	kill what failed                     stop sandboxes              release resources       when it is gone: remove all
//
// A stage never goes back.
package pod

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// State is what the runtime says of a container.
type State uint8

// The states of a container.
const (
	Created State = iota
	Running
	Exited
	Unknown
)

// Container is one container instance as the runtime holds it.
type Container struct {
	ID, Name  string
	SandboxID string
	// Attempt counts the instances of this container in this pod; it is the restart count.
	Attempt int32
	State   State
	// Hash is Hash of the container's specification when it was created; empty is taken as equal.
	Hash                             string
	CreatedAt, StartedAt, FinishedAt time.Time
	// ExitCode, Reason and Message hold when State is Exited.
	ExitCode        int32
	Reason, Message string
	// Image is the name that was asked for, ImageRef the digest reference that runs.
	Image, ImageRef string
	// Resources are what the runtime enforces now; nil when unknown.
	Resources  *corev1.ResourceRequirements
	User       *corev1.ContainerUser
	StopSignal *corev1.Signal
}

// Sandbox is one pod sandbox as the runtime holds it.
type Sandbox struct {
	ID        string
	Attempt   uint32
	Ready     bool
	CreatedAt time.Time
	// IPs are the pod's addresses, empty for host network.
	IPs []string
}

// Runtime is all that the runtime holds of the pod.
type Runtime struct {
	Sandboxes  []Sandbox
	Containers []Container
}

// Kind is a container's place in the pod specification.
type Kind uint8

// The kinds of containers.
const (
	Init Kind = iota
	Regular
	Ephemeral
)

// ProbeKind is one of the three probes.
type ProbeKind string

// The probes.
const (
	Startup   ProbeKind = "Startup"
	Liveness  ProbeKind = "Liveness"
	Readiness ProbeKind = "Readiness"
)

// Result is a probe's standing after thresholds.
type Result uint8

// The results of a probe.
const (
	Undecided Result = iota
	Success
	Failure
)

// Stage is how far a pod's life has come.
type Stage uint8

// The stages, in order.
const (
	Syncing Stage = iota
	Terminating
	Terminated
)

// End says why and how a pod is ended before its time.
type End struct {
	// Reason and Message become the pod's status.
	Reason, Message string
	// Grace replaces the pod's own grace period; nil keeps it.
	Grace *time.Duration
	// Conditions are added to the status (DisruptionTarget).
	Conditions []corev1.PodCondition
	// Rejected is set for a pod that this node never accepted: its status is reason and message alone.
	Rejected bool
}

// Config is what a machine knows besides its pod.
type Config struct {
	// RuntimeName prefixes container ids in the status ("containerd").
	RuntimeName string
	// HostIPs are the node's addresses, the preferred family first.
	HostIPs []string
	// QOS is the pod's class.
	QOS corev1.PodQOSClass
	// Static is set for pods of the manifest folder.
	Static bool
	// MaxBackoff bounds crash-loop delays; zero means five minutes.
	MaxBackoff time.Duration
	// RecursiveReadOnly is set if the pod's runtime handler can mount recursively read-only.
	RecursiveReadOnly bool
}

// Machine is the life of one pod. Its zero value is not usable; see New.
type Machine struct {
	config Config
	// pod is the newest specification. It is shared and never changed.
	pod *corev1.Pod
	// status is what Decide reported last, or the API object's status before that.
	status   *corev1.PodStatus
	runtime  Runtime
	observed bool // a first observation arrived; before it nothing is decided

	stage   Stage
	end     *End
	removed bool // the pod's source no longer has it
	// grace is how long containers get to stop, counted per container; it only ever shrinks.
	grace time.Duration

	prepared bool // volumes, cgroup and folders exist
	cleaned  bool // and have been released again
	// running holds the keys of operations in flight (see key functions in action.go).
	running map[string]bool
	// setup is the last failure of prepare or sandbox creation.
	setup failure
	// failures holds the last failed start per container name.
	failures map[string]*failure
	crashes  map[string]*backoff // by container name
	pulls    map[string]*backoff // by image
	probes   map[string]map[ProbeKind]Result
	kills    map[string]*kill // by container id
	// actuated holds the resources that each running container was last given, by container name.
	actuated map[string]corev1.ResourceRequirements
	// resetting is set while all containers are removed to be started anew (restart rule RestartAllContainers).
	resetting bool
	// resetDone is set once nothing is left to remove; the next decision starts anew.
	resetDone bool
	resizes   []corev1.PodCondition
}

// New makes the machine of a pod that the node has just learned of. The pod's status is believed where the runtime can't
// tell, so it is also how a machine resumes after a restart.
func New(config Config, p *corev1.Pod) *Machine {
	if config.MaxBackoff == 0 {
		config.MaxBackoff = 5 * time.Minute
	}
	m := &Machine{
		config: config, pod: p, status: p.Status.DeepCopy(),
		running: map[string]bool{}, failures: map[string]*failure{}, crashes: map[string]*backoff{}, pulls: map[string]*backoff{},
		probes: map[string]map[ProbeKind]Result{}, kills: map[string]*kill{}, actuated: map[string]corev1.ResourceRequirements{},
	}
	if m.status.Phase == corev1.PodSucceeded || m.status.Phase == corev1.PodFailed {
		m.begin(nil)
	}
	return m
}

// Pod returns the newest specification.
func (m *Machine) Pod() *corev1.Pod { return m.pod }

// Stage returns how far the pod's life has come.
func (m *Machine) Stage() Stage { return m.stage }

// Runtime returns the newest observation.
func (m *Machine) Runtime() Runtime { return m.runtime }

// SetPod takes a newer version of the API object or manifest.
func (m *Machine) SetPod(p *corev1.Pod) {
	if m.pod.UID != p.UID {
		panic("pod: machine of " + string(m.pod.UID) + " given pod " + string(p.UID))
	}
	m.pod = p
	if p.DeletionTimestamp != nil {
		m.begin(nil)
		m.shorten(deletionGrace(p))
	}
}

// SetResize takes the resize conditions that the node decided for the pod.
func (m *Machine) SetResize(conditions []corev1.PodCondition) { m.resizes = conditions }

// Terminate ends the pod early. The first reason wins; a shorter grace period of a later one is honoured.
func (m *Machine) Terminate(end End) {
	m.begin(&end)
	if end.Grace != nil {
		m.shorten(*end.Grace)
	}
}

// Remove says that the pod's source no longer has it: it is ended and everything of it removed.
func (m *Machine) Remove() {
	m.removed = true
	m.begin(nil)
}

// Retry forgets the delays of failed operations, because something that they wait for may have changed.
func (m *Machine) Retry() {
	m.setup.until = time.Time{}
	for _, f := range m.failures {
		if f.reason == ReasonConfigError {
			f.until = time.Time{}
		}
	}
}

// Observe takes what the runtime holds of the pod. Call it after every finished operation, before Decide.
func (m *Machine) Observe(r Runtime) {
	r.Sandboxes, r.Containers = slices.Clone(r.Sandboxes), slices.Clone(r.Containers)
	slices.SortStableFunc(r.Sandboxes, func(a, b Sandbox) int { return b.CreatedAt.Compare(a.CreatedAt) })
	slices.SortStableFunc(r.Containers, func(a, b Container) int {
		if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
			return c
		}
		return int(b.Attempt) - int(a.Attempt)
	})
	m.runtime, m.observed = r, true
	alive := map[string]bool{}
	for i := range r.Containers {
		if r.Containers[i].State == Running || r.Containers[i].State == Unknown {
			alive[r.Containers[i].ID] = true
		}
	}
	for id := range m.kills {
		if !alive[id] {
			delete(m.kills, id)
		}
	}
	for id := range m.probes {
		if !alive[id] {
			delete(m.probes, id)
		}
	}
}

// Probed takes a probe's standing for a container instance.
func (m *Machine) Probed(id string, kind ProbeKind, result Result) {
	if m.probes[id] == nil {
		m.probes[id] = map[ProbeKind]Result{}
	}
	m.probes[id][kind] = result
}

// begin moves to Terminating; the first end is kept.
func (m *Machine) begin(end *End) {
	if m.end == nil && end != nil && m.stage != Terminated {
		m.end = end
	}
	if m.stage != Syncing {
		return
	}
	m.stage = Terminating
	m.grace = specGrace(m.pod)
	if m.pod.DeletionTimestamp != nil {
		m.grace = deletionGrace(m.pod)
	}
}

// shorten lowers the grace period of a termination that is under way.
func (m *Machine) shorten(grace time.Duration) {
	if grace >= m.grace {
		return
	}
	m.grace = grace
	for _, k := range m.kills {
		if grace < k.grace {
			k.grace, k.sent = grace, false
		}
	}
}

func specGrace(p *corev1.Pod) time.Duration {
	if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return 30 * time.Second
}

func deletionGrace(p *corev1.Pod) time.Duration {
	if s := p.DeletionGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return specGrace(p)
}

// instances returns the containers of a name, the newest first.
func (m *Machine) instances(name string) []*Container {
	var out []*Container
	for i := range m.runtime.Containers {
		if m.runtime.Containers[i].Name == name {
			out = append(out, &m.runtime.Containers[i])
		}
	}
	return out
}

// newest returns the last created container of a name, or nil.
func (m *Machine) newest(name string) *Container {
	for i := range m.runtime.Containers {
		if m.runtime.Containers[i].Name == name {
			return &m.runtime.Containers[i]
		}
	}
	return nil
}

// inSandbox returns the last created container of a name in a sandbox, or nil.
func (m *Machine) inSandbox(name, sandbox string) *Container {
	for _, c := range m.instances(name) {
		if c.SandboxID == sandbox {
			return c
		}
	}
	return nil
}

// spec finds a container of the pod by name.
func (m *Machine) spec(name string) (*corev1.Container, Kind) {
	return Find(m.pod, name)
}

// Find returns a container of a pod and its kind by name, or nil.
func Find(p *corev1.Pod, name string) (*corev1.Container, Kind) {
	for i := range p.Spec.Containers {
		if p.Spec.Containers[i].Name == name {
			return &p.Spec.Containers[i], Regular
		}
	}
	for i := range p.Spec.InitContainers {
		if p.Spec.InitContainers[i].Name == name {
			return &p.Spec.InitContainers[i], Init
		}
	}
	for i := range p.Spec.EphemeralContainers {
		if p.Spec.EphemeralContainers[i].Name == name {
			return (*corev1.Container)(&p.Spec.EphemeralContainers[i].EphemeralContainerCommon), Ephemeral
		}
	}
	return nil, Regular
}

// UID returns the pod's uid.
func (m *Machine) UID() types.UID { return m.pod.UID }

// IsSidecar reports whether an init container keeps running beside the regular ones.
func IsSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
