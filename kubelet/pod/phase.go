// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pod

import (
	corev1 "k8s.io/api/core/v1"
)

func terminal(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// reasonRestartingAll marks the last state of containers that were removed to restart all of them.
const reasonRestartingAll = "RestartingAllContainers"

// tally counts containers by what their statuses mean for the pod's phase.
type tally struct {
	initPending, sidecarPending, initFailed int
	unknown, running, waiting               int
	stopped, stoppedForGood, succeeded      int
}

// phase derives the pod's phase from container statuses. With over, no container will be started again.
func (m *Machine) phase(status *corev1.PodStatus, over bool) corev1.PodPhase {
	if m.stage == Syncing {
		// Decide asks before it has a new status: take the observation, not the last report.
		status = &corev1.PodStatus{
			ContainerStatuses:     m.containerStatuses(m.pod.Spec.Containers, status.ContainerStatuses, Regular),
			InitContainerStatuses: m.containerStatuses(m.pod.Spec.InitContainers, status.InitContainerStatuses, Init),
		}
	}
	var t tally
	for i := range m.pod.Spec.InitContainers {
		c := &m.pod.Spec.InitContainers[i]
		s := findIn(status.InitContainerStatuses, c.Name)
		if IsSidecar(c) {
			t.addSidecar(s)
		} else {
			t.addInit(m, c, s)
		}
	}
	for i := range m.pod.Spec.Containers {
		c := &m.pod.Spec.Containers[i]
		t.addRegular(m, c, findIn(status.ContainerStatuses, c.Name))
	}
	return t.phase(over && !m.config.Static, m.regularActive())
}

func (t *tally) phase(over, initialized bool) corev1.PodPhase {
	switch {
	case t.initFailed > 0:
		return corev1.PodFailed
	case t.initPending > 0, t.sidecarPending > 0 && !initialized, t.waiting > 0:
		return corev1.PodPending
	case t.running > 0 && t.unknown == 0:
		return corev1.PodRunning
	case t.running == 0 && t.stopped > 0 && t.unknown == 0:
		if !over && t.stopped != t.stoppedForGood {
			return corev1.PodRunning
		}
		if t.stopped == t.succeeded {
			return corev1.PodSucceeded
		}
		return corev1.PodFailed
	}
	return corev1.PodPending
}

func (t *tally) addInit(m *Machine, c *corev1.Container, s *corev1.ContainerStatus) {
	if s == nil || s.State.Running != nil {
		t.initPending++
		return
	}
	last := s.State.Terminated
	if last == nil {
		last = s.LastTerminationState.Terminated
	}
	if last == nil {
		t.initPending++
		return
	}
	if last.ExitCode != 0 && !m.mayRestart(c, last.ExitCode) && last.Reason != reasonRestartingAll {
		t.initFailed++
	}
}

func (t *tally) addSidecar(s *corev1.ContainerStatus) {
	switch {
	case s == nil:
		t.unknown++
	case s.State.Running != nil:
		t.running++
		if s.Started == nil || !*s.Started {
			t.sidecarPending++
		}
	case s.State.Terminated != nil, s.LastTerminationState.Terminated != nil:
	case s.State.Waiting != nil:
		t.sidecarPending++
		t.waiting++
	default:
		t.sidecarPending++
		t.unknown++
	}
}

func (t *tally) addRegular(m *Machine, c *corev1.Container, s *corev1.ContainerStatus) {
	switch {
	case s == nil:
		t.unknown++
	case s.State.Running != nil:
		t.running++
	case s.State.Terminated != nil:
		t.addStopped(m, c, s.State.Terminated)
		if s.State.Terminated.ExitCode == 0 {
			t.succeeded++
		}
	case s.State.Waiting != nil && s.LastTerminationState.Terminated != nil:
		t.addStopped(m, c, s.LastTerminationState.Terminated)
	case s.State.Waiting != nil:
		t.waiting++
	default:
		t.unknown++
	}
}

func (t *tally) addStopped(m *Machine, c *corev1.Container, last *corev1.ContainerStateTerminated) {
	t.stopped++
	if !m.mayRestart(c, last.ExitCode) && last.Reason != reasonRestartingAll {
		t.stoppedForGood++
	}
}

// regularActive reports whether a regular container runs or ran in the present sandbox.
func (m *Machine) regularActive() bool {
	if len(m.runtime.Sandboxes) == 0 {
		return false
	}
	for i := range m.pod.Spec.Containers {
		if c := m.inSandbox(m.pod.Spec.Containers[i].Name, m.runtime.Sandboxes[0].ID); c != nil && (c.State == Running || c.State == Exited) {
			return true
		}
	}
	return false
}

func findIn(list []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

func findStatus(s *corev1.PodStatus, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{s.ContainerStatuses, s.InitContainerStatuses, s.EphemeralContainerStatuses} {
		if found := findIn(list, name); found != nil {
			return found
		}
	}
	return nil
}
