// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of container states.
const (
	reasonContainerCreating = "ContainerCreating"
	reasonPodInitializing   = "PodInitializing"
	reasonStatusUnknown     = "ContainerStatusUnknown"
)

// report derives the status to show now from the observation and the status shown before.
func (m *Machine) report(now time.Time) *corev1.PodStatus {
	if m.end != nil && m.end.Rejected {
		return m.reportRejected(now)
	}
	old := m.status
	s := &corev1.PodStatus{
		QOSClass: m.config.QOS, StartTime: old.StartTime, NominatedNodeName: old.NominatedNodeName, ResourceClaimStatuses: m.pod.Status.ResourceClaimStatuses,
		ExtendedResourceClaimStatus: m.pod.Status.ExtendedResourceClaimStatus, ObservedGeneration: m.pod.Generation, Reason: old.Reason, Message: old.Message,
	}
	if s.StartTime == nil {
		start := metav1.NewTime(now).Rfc3339Copy()
		s.StartTime = &start
	}
	m.setAddresses(s)
	s.ContainerStatuses = m.containerStatuses(m.pod.Spec.Containers, old.ContainerStatuses, Regular)
	s.InitContainerStatuses = m.containerStatuses(m.pod.Spec.InitContainers, old.InitContainerStatuses, Init)
	ephemeral := make([]corev1.Container, 0, len(m.pod.Spec.EphemeralContainers))
	for i := range m.pod.Spec.EphemeralContainers {
		ephemeral = append(ephemeral, corev1.Container(m.pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	s.EphemeralContainerStatuses = m.containerStatuses(ephemeral, old.EphemeralContainerStatuses, Ephemeral)
	m.setPhase(s)
	m.setConditions(s, now)
	m.setResources(s)
	return s
}

// reportRejected is the status of a pod that the node did not accept: nothing ran, nothing else is known.
func (m *Machine) reportRejected(now time.Time) *corev1.PodStatus {
	s := &corev1.PodStatus{
		Phase: corev1.PodFailed, Reason: m.end.Reason, Message: m.end.Message, QOSClass: m.config.QOS, ObservedGeneration: m.pod.Generation,
		StartTime: m.status.StartTime, Conditions: slices.Clone(m.pod.Status.Conditions),
	}
	if s.StartTime == nil {
		start := metav1.NewTime(now).Rfc3339Copy()
		s.StartTime = &start
	}
	for _, c := range m.end.Conditions {
		m.setCondition(s, c, now)
	}
	return s
}

// setPhase fills phase, reason and message. A terminal phase is shown only once no container can run any more.
func (m *Machine) setPhase(s *corev1.PodStatus) {
	old := m.status.Phase
	if m.stage == Terminated {
		m.settle(s)
	}
	natural := m.phase(s, m.stage == Terminated)
	s.Phase = natural
	switch {
	case terminal(old):
		s.Phase = old
	case m.end != nil && m.stage == Terminated:
		s.Phase = corev1.PodFailed
		s.Reason, s.Message = m.end.Reason, m.end.Message
	case m.stage == Terminated:
		if !terminal(natural) && (!m.config.Static || m.pod.DeletionTimestamp != nil || natural != corev1.PodRunning) {
			s.Phase = corev1.PodFailed
		}
	case terminal(natural):
		if s.Phase = old; old == "" {
			s.Phase = corev1.PodPending
		}
	}
	if s.Phase != old && m.end == nil {
		s.Reason, s.Message = "", ""
	}
}

// settle marks every container that should have run and has no end as terminated for an unknown reason.
func (m *Machine) settle(s *corev1.PodStatus) {
	lost := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason: reasonStatusUnknown, Message: "The container could not be located when the pod was terminated", ExitCode: 137,
	}}
	if m.hasInitialized(s) {
		for i := range s.ContainerStatuses {
			if s.ContainerStatuses[i].State.Terminated == nil {
				s.ContainerStatuses[i].State = lost
			}
		}
	}
	// Init containers after the last that ever started keep waiting.
	last := -1
	for i := range s.InitContainerStatuses {
		c := &s.InitContainerStatuses[i]
		if c.State.Terminated != nil || c.State.Running != nil || c.LastTerminationState.Terminated != nil {
			last = i
		}
	}
	for i := 0; i <= last; i++ {
		if s.InitContainerStatuses[i].State.Terminated == nil {
			s.InitContainerStatuses[i].State = lost
		}
	}
}

func (m *Machine) hasInitialized(s *corev1.PodStatus) bool {
	if len(m.pod.Spec.InitContainers) == 0 {
		return true
	}
	for i := range s.ContainerStatuses {
		c := &s.ContainerStatuses[i]
		if c.LastTerminationState.Terminated != nil || c.State.Running != nil || c.State.Terminated != nil {
			return true
		}
	}
	final := &s.InitContainerStatuses[len(s.InitContainerStatuses)-1]
	spec, _ := m.spec(final.Name)
	if spec != nil && IsSidecar(spec) {
		return final.Started != nil && *final.Started
	}
	t := final.State.Terminated
	if t == nil {
		t = final.LastTerminationState.Terminated
	}
	return t != nil && t.ExitCode == 0
}

// setAddresses fills host and pod addresses. A pod keeps its address after its sandbox is gone.
func (m *Machine) setAddresses(s *corev1.PodStatus) {
	for _, ip := range m.config.HostIPs {
		s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip})
	}
	if len(s.HostIPs) > 0 {
		s.HostIP = s.HostIPs[0].IP
	}
	if m.pod.Spec.HostNetwork {
		for _, ip := range m.config.HostIPs {
			s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip})
		}
	} else if sandbox, changed, _ := m.sandbox(); !changed {
		for _, ip := range SortIPs(sandbox.IPs, m.config.HostIPs) {
			s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip})
		}
	} else {
		s.PodIPs = m.status.PodIPs
	}
	if len(s.PodIPs) > 0 {
		s.PodIP = s.PodIPs[0].IP
	}
}

// containerStatuses renders the statuses of one kind of containers, in the order of the specification.
func (m *Machine) containerStatuses(specs []corev1.Container, old []corev1.ContainerStatus, kind Kind) []corev1.ContainerStatus {
	if len(specs) == 0 {
		return nil
	}
	out := make([]corev1.ContainerStatus, 0, len(specs))
	for i := range specs {
		out = append(out, m.containerStatus(&specs[i], findIn(old, specs[i].Name), kind))
	}
	if kind == Ephemeral {
		slices.SortStableFunc(out, func(a, b corev1.ContainerStatus) int { return compare(a.Name, b.Name) })
	}
	return out
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (m *Machine) containerStatus(c *corev1.Container, old *corev1.ContainerStatus, kind Kind) corev1.ContainerStatus {
	// An instance that is created and not yet started has nothing to show: what was before it is still true.
	instances := slices.DeleteFunc(m.instances(c.Name), func(i *Container) bool { return i.State == Created })
	var s corev1.ContainerStatus
	if len(instances) == 0 {
		s = m.statusWithoutInstance(c, old)
	} else {
		s = m.statusOfInstance(instances[0], old)
		s.VolumeMounts = m.mountStatuses(c)
		if len(instances) > 1 && instances[1].State == Exited {
			s.LastTerminationState = corev1.ContainerState{Terminated: m.terminated(instances[1])}
		}
		s.Resources = m.resourceStatus(c, instances[0])
		s.AllocatedResources = c.Resources.Requests
		if c.Lifecycle == nil || c.Lifecycle.StopSignal == nil {
			s.StopSignal = nil // the image's own is not reported
		}
	}
	m.inferInit(&s, c, kind, len(instances))
	m.showWaiting(&s, c, kind, instances)
	m.setReady(&s, c, kind)
	return s
}

// statusWithoutInstance is the status of a container that the runtime does not know (yet, or any more).
func (m *Machine) statusWithoutInstance(c *corev1.Container, old *corev1.ContainerStatus) corev1.ContainerStatus {
	reason := reasonContainerCreating
	if len(m.pod.Spec.InitContainers) > 0 {
		reason = reasonPodInitializing
	}
	s := corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, VolumeMounts: m.mountStatuses(c),
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}},
	}
	if old == nil {
		return s
	}
	if m.resetting && old.State.Waiting == nil {
		s.RestartCount = old.RestartCount + 1
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: reasonRestartingAll, Message: "The container is removed because RestartAllContainers in place"}
		s.LastTerminationState = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			Reason: reasonRestartingAll, Message: "The container is removed because RestartAllContainers in place", ExitCode: 137,
		}}
		return s
	}
	if old.State.Terminated != nil {
		return *old
	}
	s.RestartCount, s.LastTerminationState = old.RestartCount, old.LastTerminationState
	if old.State.Running != nil && s.LastTerminationState.Terminated == nil {
		// It ran and has vanished: an end must be shown, or the pod would look as if it had never started.
		s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{
			Reason: reasonStatusUnknown, Message: "The container could not be located when the pod was deleted.  The container used to be Running", ExitCode: 137,
		}
		if m.pod.DeletionTimestamp == nil {
			s.RestartCount++
		}
	}
	return s
}

func (m *Machine) statusOfInstance(c *Container, old *corev1.ContainerStatus) corev1.ContainerStatus {
	id := m.config.RuntimeName + "://" + c.ID
	s := corev1.ContainerStatus{
		Name: c.Name, RestartCount: c.Attempt, Image: c.Image, ImageID: c.ImageRef, ContainerID: id, User: c.User, StopSignal: c.StopSignal,
	}
	if old != nil {
		s.RestartCount = max(s.RestartCount, old.RestartCount)
		switch {
		case old.ContainerID != id && old.State.Terminated != nil:
			s.LastTerminationState.Terminated = old.State.Terminated
		default:
			s.LastTerminationState.Terminated = old.LastTerminationState.Terminated
		}
	}
	switch c.State {
	case Running:
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(c.StartedAt).Rfc3339Copy()}
	case Exited:
		s.State.Terminated = m.terminated(c)
	case Unknown:
		if old != nil && old.State.Running != nil {
			s.State.Terminated = &corev1.ContainerStateTerminated{
				Reason: reasonStatusUnknown, Message: "The container could not be located when the pod was terminated", ExitCode: 137,
			}
			s.RestartCount = old.RestartCount + 1
			return s
		}
		s.State.Waiting = &corev1.ContainerStateWaiting{}
	case Created:
		s.State.Waiting = &corev1.ContainerStateWaiting{}
	}
	return s
}

func (m *Machine) terminated(c *Container) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{
		ExitCode: c.ExitCode, Reason: c.Reason, Message: c.Message, ContainerID: m.config.RuntimeName + "://" + c.ID,
		StartedAt: metav1.NewTime(c.StartedAt).Rfc3339Copy(), FinishedAt: metav1.NewTime(c.FinishedAt).Rfc3339Copy(),
	}
}

// inferInit shows an init container whose instance is gone as completed, once a regular container exists.
func (m *Machine) inferInit(s *corev1.ContainerStatus, c *corev1.Container, kind Kind, instances int) {
	if kind != Init || instances > 0 || IsSidecar(c) || s.State.Waiting == nil || len(m.runtime.Sandboxes) == 0 {
		return
	}
	if !m.regularCreated(m.runtime.Sandboxes[0].ID) {
		return
	}
	s.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason:  "Completed",
		Message: "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally",
	}}
}

// showWaiting shows why a container that is to be started does not run.
func (m *Machine) showWaiting(s *corev1.ContainerStatus, c *corev1.Container, kind Kind, instances []*Container) {
	f := m.failures[c.Name]
	if f == nil || f.reason == "" || m.stage != Syncing || s.State.Running != nil {
		return
	}
	if len(instances) > 0 {
		last := instances[0]
		if kind == Init && last.State == Exited && last.ExitCode == 0 && !IsSidecar(c) {
			return
		}
		if last.State == Exited && !m.shouldRestart(c, last.ExitCode) {
			return
		}
	}
	if s.State.Terminated != nil {
		s.LastTerminationState = s.State
	}
	s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: f.reason, Message: f.message}}
}

// setReady fills started and ready from probe results.
func (m *Machine) setReady(s *corev1.ContainerStatus, c *corev1.Container, kind Kind) {
	started := false
	defer func() {
		if kind != Ephemeral {
			s.Started = &started
		}
	}()
	switch {
	case s.State.Running != nil && kind != Ephemeral:
		id := s.ContainerID[len(m.config.RuntimeName)+len("://"):]
		started = c.StartupProbe == nil || m.result(id, Startup) == Success
		s.Ready = started && (c.ReadinessProbe == nil || m.result(id, Readiness) == Success)
		if kind == Init && !IsSidecar(c) {
			started, s.Ready = true, false
		}
	case s.State.Terminated != nil && kind == Init && !IsSidecar(c):
		s.Ready = s.State.Terminated.ExitCode == 0
	}
}

// result returns a probe's standing. What the API showed before a restart of the kubelet counts until a probe says otherwise.
func (m *Machine) result(id string, kind ProbeKind) Result {
	if r, ok := m.probes[id][kind]; ok {
		return r
	}
	return m.reported(id, kind)
}

func (m *Machine) reported(id string, kind ProbeKind) Result {
	full := m.config.RuntimeName + "://" + id
	for _, list := range [][]corev1.ContainerStatus{m.pod.Status.ContainerStatuses, m.pod.Status.InitContainerStatuses} {
		for i := range list {
			s := &list[i]
			if s.ContainerID != full || s.State.Running == nil {
				continue
			}
			if kind == Startup && s.Started != nil && *s.Started || kind == Readiness && s.Ready {
				return Success
			}
		}
	}
	return Undecided
}

// mountStatuses repeats a container's volume mounts as the status shows them.
func (m *Machine) mountStatuses(c *corev1.Container) []corev1.VolumeMountStatus {
	var out []corev1.VolumeMountStatus
	for _, v := range c.VolumeMounts {
		s := corev1.VolumeMountStatus{Name: v.Name, MountPath: v.MountPath, ReadOnly: v.ReadOnly}
		if v.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if v.RecursiveReadOnly != nil && m.config.RecursiveReadOnly && *v.RecursiveReadOnly != corev1.RecursiveReadOnlyDisabled {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			s.RecursiveReadOnly = &mode
		}
		out = append(out, s)
	}
	return out
}

// wantedProbes lists the probes that have something to find out now.
func (m *Machine) wantedProbes() []Probe {
	if m.stage == Terminated {
		return nil
	}
	var out []Probe
	for i := range m.runtime.Containers {
		c := &m.runtime.Containers[i]
		spec, kind := m.spec(c.Name)
		if c.State != Running || spec == nil || kind == Ephemeral || kind == Init && !IsSidecar(spec) {
			continue
		}
		add := func(kind ProbeKind, p *corev1.Probe, initial Result) {
			if p != nil {
				out = append(out, Probe{ID: c.ID, Container: spec, Kind: kind, Spec: p, Initial: initial, StartedAt: c.StartedAt})
			}
		}
		if spec.StartupProbe != nil && m.result(c.ID, Startup) != Success {
			if m.stage == Syncing && m.kills[c.ID] == nil {
				add(Startup, spec.StartupProbe, Undecided)
			}
			continue
		}
		if m.stage == Syncing && m.kills[c.ID] == nil {
			add(Liveness, spec.LivenessProbe, Success)
		}
		initial := Failure
		if m.result(c.ID, Readiness) == Success {
			initial = Success
		}
		add(Readiness, spec.ReadinessProbe, initial)
	}
	return out
}
