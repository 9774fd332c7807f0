// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// planResize gives a running container the resources of a changed specification, in place or by a restart, as the
// container's resize policy says.
func (m *Machine) planResize(d *Decision, now time.Time, current *Container, c *corev1.Container) {
	given, known := m.actuated[c.Name]
	if !known {
		// Started before this kubelet: what the runtime reports is what it was given; without a report, believe it is right.
		m.actuated[c.Name] = c.Resources
		if current.Resources == nil {
			return
		}
		given = *current.Resources
		if !sameResources(given, c.Resources) {
			return
		}
	}
	changed := changedResources(given, c.Resources)
	if len(changed) == 0 {
		return
	}
	if f := m.failures[c.Name]; f != nil && f.reason == reasonResize && now.Before(f.until) {
		d.wake(f.until)
		return
	}
	for _, p := range c.ResizePolicy {
		if p.RestartPolicy == corev1.RestartContainer && slices.Contains(changed, p.ResourceName) {
			m.kill(d, now, current, fmt.Sprintf("Container %s resize requires restart", c.Name), killDefault)
			return
		}
	}
	m.do(d, Action{Verb: Resize, Key: key(Resize, c.Name), ID: current.ID, SandboxID: current.SandboxID, Container: c})
}

const reasonResize = "ResizeError"

func (m *Machine) resizeDone(a Action, o Outcome, now time.Time) {
	if o.Err == nil {
		m.actuated[a.Container.Name] = a.Container.Resources
		delete(m.failures, a.Container.Name)
		return
	}
	m.failures[a.Container.Name] = &failure{reason: reasonResize, message: o.Err.Error(), at: now, until: now.Add(5 * time.Second)}
}

// Resizing reports whether a container that runs, or is about to run again, has not yet been given the resources of the
// specification.
func (m *Machine) Resizing() bool {
	for name, given := range m.actuated {
		c, _ := m.spec(name)
		last := m.newest(name)
		if c == nil || last == nil || len(changedResources(given, c.Resources)) == 0 {
			continue
		}
		if last.State != Exited || m.stage == Syncing && m.mayRestart(c, last.ExitCode) {
			return true
		}
	}
	return false
}

// sameResources reports whether what a runtime reports names the same resources as a specification.
func sameResources(given, want corev1.ResourceRequirements) bool {
	return len(given.Limits) == len(want.Limits) && len(given.Requests) == len(want.Requests)
}

// changedResources lists which of cpu and memory differ, in requests or limits.
func changedResources(a, b corev1.ResourceRequirements) []corev1.ResourceName {
	var out []corev1.ResourceName
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		ra, rb, la, lb := a.Requests[name], b.Requests[name], a.Limits[name], b.Limits[name]
		if ra.Cmp(rb) != 0 || la.Cmp(lb) != 0 {
			out = append(out, name)
		}
	}
	return out
}

// resourceStatus is what a container has now: what it was last given if it runs, else what it will get.
func (m *Machine) resourceStatus(c *corev1.Container, current *Container) *corev1.ResourceRequirements {
	r := c.Resources.DeepCopy()
	given, known := m.actuated[c.Name]
	if current.State != Running || !known {
		return r
	}
	overlay := func(into, from corev1.ResourceList) corev1.ResourceList {
		into = maps.Clone(into)
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			if q, ok := from[name]; ok {
				if into == nil {
					into = corev1.ResourceList{}
				}
				into[name] = q.DeepCopy()
			}
		}
		return into
	}
	r.Limits, r.Requests = overlay(r.Limits, given.Limits), overlay(r.Requests, given.Requests)
	return r
}

// setResources fills the pod-level resource fields.
func (m *Machine) setResources(s *corev1.PodStatus) {
	if m.pod.Spec.Resources == nil {
		return
	}
	s.Resources = m.pod.Spec.Resources.DeepCopy()
	s.AllocatedResources = m.pod.Spec.Resources.DeepCopy().Requests
}
