// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// minimumGrace is what every container gets between its stop signal and SIGKILL, however little grace is left.
const minimumGrace = 2 * time.Second

type hookState uint8

const (
	hookNone hookState = iota
	hookPending
	hookRunning
	hookDone
)

// kill is a container being stopped: preStop hook, then (in a pod that ends) its turn, then the stop signal.
type kill struct {
	name  string
	begun time.Time
	grace time.Duration // counted from begun
	hook  hookState
	sent  bool // the stop was asked for with the present grace
	retry time.Time
	// ordered makes sidecars wait for those that depend on them.
	ordered bool
}

func (k *kill) deadline() time.Time { return k.begun.Add(k.grace) }

type killReason uint8

const (
	killDefault killReason = iota
	killStartup
	killLiveness
)

// kill begins to stop a container, unless that has begun.
func (m *Machine) kill(d *Decision, now time.Time, c *Container, message string, reason killReason) {
	if m.kills[c.ID] != nil {
		return
	}
	spec, kind := m.spec(c.Name)
	k := &kill{name: c.Name, begun: now, grace: specGrace(m.pod)}
	if m.stage != Syncing {
		k.grace, k.ordered = m.grace, true
	}
	if spec != nil {
		k.grace = probeGrace(spec, reason, k.grace)
		if spec.Lifecycle != nil && spec.Lifecycle.PreStop != nil && k.grace > 0 && kind != Ephemeral {
			k.hook = hookPending
		}
	}
	if message == "" {
		message = "Stopping container " + c.Name
	}
	d.event(corev1.EventTypeNormal, "Killing", message, c.Name)
	m.kills[c.ID] = k
}

// probeGrace returns the grace of the probe that failed, if it has its own.
func probeGrace(c *corev1.Container, reason killReason, grace time.Duration) time.Duration {
	var p *corev1.Probe
	switch reason {
	case killStartup:
		p = c.StartupProbe
	case killLiveness:
		p = c.LivenessProbe
	case killDefault:
	}
	if p != nil && p.TerminationGracePeriodSeconds != nil {
		return time.Duration(*p.TerminationGracePeriodSeconds) * time.Second
	}
	return grace
}

// advanceKills takes each stop one step further.
func (m *Machine) advanceKills(d *Decision, now time.Time) {
	ids := make([]string, 0, len(m.kills))
	for id := range m.kills {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		m.advanceKill(d, now, id, m.kills[id])
	}
}

func (m *Machine) advanceKill(d *Decision, now time.Time, id string, k *kill) {
	spec, kind := m.spec(k.name)
	late := !now.Before(k.deadline())
	if k.hook == hookPending && !late {
		k.hook = hookRunning
		m.do(d, Action{Verb: PreStop, Key: key(PreStop, id), ID: id, Container: spec, Kind: kind, Grace: k.deadline().Sub(now)})
	}
	if !late && (k.hook == hookRunning || k.ordered && m.mustWait(k.name)) {
		d.wake(k.deadline())
		return
	}
	if k.sent {
		return
	}
	if now.Before(k.retry) {
		d.wake(k.retry)
		return
	}
	// A shortened grace asks again while the first request still waits, hence a key of its own.
	k.sent = true
	grace := max(k.deadline().Sub(now), minimumGrace).Truncate(time.Second)
	m.do(d, Action{Verb: StopContainer, Key: key(StopContainer, id+"/"+grace.String()), ID: id, Container: spec, Kind: kind, Grace: grace})
}

// mustWait reports whether a container has to outlive others: a sidecar stops after all regular containers and after the
// sidecars that started later.
func (m *Machine) mustWait(name string) bool {
	inits := m.pod.Spec.InitContainers
	at := slices.IndexFunc(inits, func(c corev1.Container) bool { return c.Name == name })
	if at < 0 || !IsSidecar(&inits[at]) {
		return false
	}
	for i := range m.pod.Spec.Containers {
		if m.alive(m.pod.Spec.Containers[i].Name) {
			return true
		}
	}
	for i := at + 1; i < len(inits); i++ {
		if IsSidecar(&inits[i]) && m.alive(inits[i].Name) {
			return true
		}
	}
	return false
}

func (m *Machine) alive(name string) bool {
	c := m.newest(name)
	return c != nil && (c.State == Running || c.State == Unknown)
}

// terminate stops what runs and then the sandboxes.
func (m *Machine) terminate(d *Decision, now time.Time) {
	running := false
	for i := range m.runtime.Containers {
		c := &m.runtime.Containers[i]
		if c.State != Running && c.State != Unknown {
			continue
		}
		running = true
		if k := m.kills[c.ID]; k == nil {
			m.kill(d, now, c, "", killDefault)
		} else if !k.ordered {
			// It was being stopped for another reason: from now on the pod's end decides.
			k.ordered = true
			if left := now.Sub(k.begun) + m.grace; left < k.grace {
				k.grace, k.sent = left, false
			}
		}
	}
	if running || m.busyWith(StartContainer) || m.busyWith(CreateSandbox) || m.busyWith(Prepare) {
		return
	}
	for i := range m.runtime.Sandboxes {
		if s := &m.runtime.Sandboxes[i]; s.Ready && m.wait(d, now) {
			m.do(d, Action{Verb: StopSandbox, Key: key(StopSandbox, s.ID), ID: s.ID})
		}
	}
	if slices.ContainsFunc(m.runtime.Sandboxes, func(s Sandbox) bool { return s.Ready }) || m.busyWith(StopSandbox) {
		return
	}
	m.stage = Terminated
}

// release gives back what the pod holds, and removes its remains once its source has let go of it.
func (m *Machine) release(d *Decision, now time.Time) {
	if !m.cleaned {
		if m.wait(d, now) {
			m.do(d, Action{Verb: Release, Key: key(Release, "")})
		}
		return
	}
	if !m.removed || !m.wait(d, now) {
		return
	}
	for i := range m.runtime.Sandboxes {
		s := &m.runtime.Sandboxes[i]
		m.do(d, Action{Verb: RemoveSandbox, Key: key(RemoveSandbox, s.ID), ID: s.ID})
	}
	if len(m.runtime.Sandboxes) == 0 {
		for i := range m.runtime.Containers {
			c := &m.runtime.Containers[i]
			m.do(d, Action{Verb: RemoveContainer, Key: key(RemoveContainer, c.ID), ID: c.ID})
		}
		if len(m.runtime.Containers) == 0 {
			m.do(d, Action{Verb: Forget, Key: key(Forget, "")})
		}
	}
}
