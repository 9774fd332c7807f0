// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Decide answers what to do at this time. Every action in the answer must be carried out and reported with Done.
func (m *Machine) Decide(now time.Time) *Decision {
	d := &Decision{}
	if m.pod.DeletionTimestamp != nil {
		m.begin(nil)
	}
	if m.observed {
		m.checkDeadline(d, now)
		if m.stage == Syncing && terminal(m.phase(m.status, false)) {
			m.begin(nil)
		}
		if m.stage == Syncing {
			m.sync(d, now)
		}
		if m.stage == Terminating {
			m.terminate(d, now)
		}
		if m.stage == Terminated {
			m.release(d, now)
		}
		m.advanceKills(d, now)
		m.collectDead(d)
	}
	m.status = m.report(now)
	d.Status, d.Stage = m.status, m.stage
	d.Probes = m.wantedProbes()
	d.Clean = m.stage == Terminated && m.cleaned
	return d
}

// checkDeadline ends a pod that has been active for longer than it may.
func (m *Machine) checkDeadline(d *Decision, now time.Time) {
	seconds := m.pod.Spec.ActiveDeadlineSeconds
	if seconds == nil || m.status.StartTime == nil || m.stage != Syncing {
		return
	}
	deadline := m.status.StartTime.Add(time.Duration(*seconds) * time.Second)
	if now.Before(deadline) {
		d.wake(deadline)
		return
	}
	const message = "Pod was active on the node longer than the specified deadline"
	d.event(corev1.EventTypeNormal, "DeadlineExceeded", message, "")
	m.begin(&End{Reason: "DeadlineExceeded", Message: message})
}

// sync brings the pod towards its specification.
func (m *Machine) sync(d *Decision, now time.Time) {
	if !m.prepared {
		if m.wait(d, now) {
			m.do(d, Action{Verb: Prepare, Key: key(Prepare, "")})
		}
		return
	}
	if m.startReset(now) {
		m.reset(d, now)
		return
	}
	sandbox, changed, attempt := m.sandbox()
	if changed {
		m.replaceSandbox(d, now, sandbox, attempt)
		return
	}
	m.planEphemeral(d, now, sandbox.ID)
	initialized, over := m.planInit(d, now, sandbox.ID)
	if over {
		m.begin(nil)
		return
	}
	if initialized && m.planRegular(d, now, sandbox.ID) {
		m.begin(nil)
	}
}

// wait reports whether the pod's set-up may be tried (again) now, and arranges to be woken otherwise.
func (m *Machine) wait(d *Decision, now time.Time) bool {
	if now.Before(m.setup.until) {
		d.wake(m.setup.until)
		return false
	}
	return true
}

// sandbox returns the sandbox to use, or whether a new one is needed and with which number. With changed, the sandbox is the
// one to replace and may be nil.
func (m *Machine) sandbox() (current *Sandbox, changed bool, attempt uint32) {
	if len(m.runtime.Sandboxes) == 0 {
		return nil, true, 0
	}
	latest, ready := &m.runtime.Sandboxes[0], 0
	for i := range m.runtime.Sandboxes {
		if m.runtime.Sandboxes[i].Ready {
			ready++
		}
	}
	if ready > 1 || !latest.Ready || !m.pod.Spec.HostNetwork && len(latest.IPs) == 0 {
		return latest, true, latest.Attempt + 1
	}
	return latest, false, latest.Attempt
}

// replaceSandbox stops what belongs to the old sandbox, if there is one, and then makes a new one.
func (m *Machine) replaceSandbox(d *Decision, now time.Time, old *Sandbox, attempt uint32) {
	if m.pod.Spec.RestartPolicy == corev1.RestartPolicyNever && attempt != 0 && len(m.runtime.Containers) > 0 {
		m.begin(nil)
		return
	}
	if !m.anythingToStart() {
		m.begin(nil)
		return
	}
	if m.busyWith(CreateSandbox) {
		return
	}
	for i := range m.runtime.Containers {
		if c := &m.runtime.Containers[i]; c.State == Running || c.State == Unknown {
			m.kill(d, now, c, "", killDefault)
		}
	}
	if len(m.kills) > 0 || m.busyWith(StartContainer) {
		return
	}
	for i := range m.runtime.Sandboxes {
		if s := &m.runtime.Sandboxes[i]; s.Ready && m.wait(d, now) {
			m.do(d, Action{Verb: StopSandbox, Key: key(StopSandbox, s.ID), ID: s.ID})
		}
	}
	if m.busyWith(StopSandbox) || !m.wait(d, now) {
		return
	}
	a := Action{Verb: CreateSandbox, Key: key(CreateSandbox, ""), Attempt: int32(attempt)}
	if old != nil {
		a.Previous = old.ID
		d.event(corev1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.", "")
	}
	m.do(d, a)
}

// anythingToStart reports whether a new sandbox would have a purpose: a regular container that may run (again), or an
// initialization that never finished.
func (m *Machine) anythingToStart() bool {
	created := false
	for i := range m.pod.Spec.Containers {
		c := &m.pod.Spec.Containers[i]
		last := m.newest(c.Name)
		if last == nil {
			return true
		}
		created = true
		if m.restartPolicy(c) != corev1.RestartPolicyOnFailure || last.State != Exited || last.ExitCode != 0 {
			return true
		}
	}
	return !created
}

// planEphemeral starts ephemeral containers, each once.
func (m *Machine) planEphemeral(d *Decision, now time.Time, sandbox string) {
	for i := range m.pod.Spec.EphemeralContainers {
		e := &m.pod.Spec.EphemeralContainers[i]
		c := (*corev1.Container)(&e.EphemeralContainerCommon)
		if m.newest(c.Name) != nil {
			continue
		}
		target := ""
		if e.TargetContainerName != "" {
			if t := m.newest(e.TargetContainerName); t != nil {
				target = t.ID
			}
		}
		m.start(d, now, sandbox, c, Ephemeral, target)
	}
}

// planInit advances initialization. It reports whether regular containers may run, and whether the pod is over because an
// init container failed for good.
func (m *Machine) planInit(d *Decision, now time.Time, sandbox string) (initialized, over bool) {
	inits := m.pod.Spec.InitContainers
	passed := m.regularCreated(sandbox)
	last := -1 // the furthest init container that exists in this sandbox
	for i := range inits {
		if m.inSandbox(inits[i].Name, sandbox) != nil {
			last = i
		}
	}
	initialized = passed || len(inits) == 0
	for i := range inits {
		c := &inits[i]
		if passed || i < last {
			if IsSidecar(c) {
				m.planSidecar(d, now, sandbox, c)
			}
			continue
		}
		if i > last+1 {
			break
		}
		done, failed := m.planNextInit(d, now, sandbox, c)
		if failed {
			return false, true
		}
		if !done {
			return false, false
		}
		last = max(last, i)
		initialized = i == len(inits)-1
	}
	return initialized, false
}

// planNextInit works on the init container that the pod has come to.
func (m *Machine) planNextInit(d *Decision, now time.Time, sandbox string, c *corev1.Container) (done, failed bool) {
	if IsSidecar(c) {
		return m.planSidecar(d, now, sandbox, c), false
	}
	current := m.inSandbox(c.Name, sandbox)
	switch {
	case current == nil || current.State == Created:
		m.start(d, now, sandbox, c, Init, "")
		return false, false
	case current.State == Running:
		m.planResize(d, now, current, c)
		return false, false
	case current.State == Unknown:
		if m.restartPolicy(c) == corev1.RestartPolicyNever {
			return false, true
		}
		m.kill(d, now, current, "Init container is in \"unknown\" state, try killing it before restart", killDefault)
		return false, false
	case current.ExitCode == 0:
		return true, false
	case !m.shouldRestart(c, current.ExitCode):
		return false, true
	}
	m.start(d, now, sandbox, c, Init, "")
	return false, false
}

// planSidecar keeps a sidecar running and reports whether it has started up.
func (m *Machine) planSidecar(d *Decision, now time.Time, sandbox string, c *corev1.Container) bool {
	current := m.inSandbox(c.Name, sandbox)
	if current == nil || current.State == Created || current.State == Exited {
		m.start(d, now, sandbox, c, Init, "")
		return false
	}
	if current.State == Unknown {
		m.kill(d, now, current, "Init container is in \"unknown\" state, try killing it before restart", killDefault)
		return false
	}
	if c.StartupProbe != nil && m.result(current.ID, Startup) == Failure {
		m.kill(d, now, current, fmt.Sprintf("Init container %s failed startup probe", c.Name), killStartup)
		return false
	}
	if c.StartupProbe != nil && m.result(current.ID, Startup) != Success {
		return false
	}
	switch {
	case current.Hash != "" && current.Hash != Hash(c):
		m.kill(d, now, current, fmt.Sprintf("Init container %s definition changed", c.Name), killDefault)
	case m.result(current.ID, Liveness) == Failure:
		m.kill(d, now, current, fmt.Sprintf("Init container %s failed liveness probe", c.Name), killLiveness)
	default:
		m.planResize(d, now, current, c)
	}
	return true
}

// regularCreated reports whether a regular container was ever created in the sandbox: initialization is over then.
func (m *Machine) regularCreated(sandbox string) bool {
	return slices.ContainsFunc(m.pod.Spec.Containers, func(c corev1.Container) bool {
		current := m.inSandbox(c.Name, sandbox)
		return current != nil && current.State != Unknown
	})
}

// planRegular keeps the regular containers running. It reports whether the pod is over because none runs or will.
func (m *Machine) planRegular(d *Decision, now time.Time, sandbox string) (over bool) {
	alive := 0
	for i := range m.pod.Spec.Containers {
		c := &m.pod.Spec.Containers[i]
		current := m.newest(c.Name)
		if current == nil || current.State != Running {
			if current != nil && current.State == Unknown {
				m.kill(d, now, current, "Container is in \"unknown\" state, try killing it before restart", killDefault)
				alive++
				continue
			}
			if current == nil || current.State == Created || m.shouldRestart(c, current.ExitCode) {
				alive++
				m.start(d, now, sandbox, c, Regular, "")
			}
			continue
		}
		alive++
		m.judge(d, now, c, current)
	}
	return alive == 0 && !m.busyWith(StartContainer)
}

// judge kills a running regular container that must not go on.
func (m *Machine) judge(d *Decision, now time.Time, c *corev1.Container, current *Container) {
	message, reason := "", killDefault
	restart := m.restartPolicy(c) != corev1.RestartPolicyNever
	switch {
	case current.Hash != "" && current.Hash != Hash(c):
		message, restart = fmt.Sprintf("Container %s definition changed", c.Name), true
	case m.result(current.ID, Liveness) == Failure:
		message, reason = fmt.Sprintf("Container %s failed liveness probe", c.Name), killLiveness
	case m.result(current.ID, Startup) == Failure:
		message, reason = fmt.Sprintf("Container %s failed startup probe", c.Name), killStartup
	default:
		m.planResize(d, now, current, c)
		return
	}
	if restart {
		message += ", will be restarted"
	}
	m.kill(d, now, current, message, reason)
}

// start starts a container unless something of it is under way or it has to wait.
func (m *Machine) start(d *Decision, now time.Time, sandbox string, c *corev1.Container, kind Kind, target string) {
	// One start at a time per pod: postStart hooks delay the containers after them.
	if m.busyWith(StartContainer) {
		return
	}
	if f := m.failures[c.Name]; f != nil && f.image != "" && f.image != c.Image {
		delete(m.failures, c.Name) // the image was changed: judge it afresh
	}
	if f := m.failures[c.Name]; f != nil && now.Before(f.until) {
		m.pullBackedOff(d, now, c, f)
		d.wake(f.until)
		return
	}
	attempt := int32(0)
	if last := m.newest(c.Name); last != nil {
		if m.backOff(d, now, c, last) {
			return
		}
		attempt = last.Attempt + 1
	} else if s := findStatus(m.status, c.Name); s != nil && s.State.Running == nil && s.LastTerminationState.Terminated != nil {
		attempt = s.RestartCount
	}
	m.do(d, Action{
		Verb: StartContainer, Key: key(StartContainer, c.Name), SandboxID: sandbox, Container: c, Kind: kind, Attempt: attempt, Target: target,
	})
}

// pullGrace is how long a failed pull is shown as ErrImagePull before it is shown as ImagePullBackOff.
const pullGrace = 2 * time.Second

func (m *Machine) pullBackedOff(d *Decision, now time.Time, c *corev1.Container, f *failure) {
	if f.reason != ReasonErrImagePull {
		return
	}
	if shown := f.at.Add(pullGrace); now.Before(shown) {
		d.wake(shown)
		return
	}
	f.reason = ReasonImagePullBackOff
	f.message = fmt.Sprintf("Back-off pulling image %q: %s: %s", c.Image, ReasonErrImagePull, f.message)
	d.event(corev1.EventTypeNormal, "BackOff", fmt.Sprintf("Back-off pulling image %q", c.Image), c.Name)
}

// backOff reports whether a crashed container still has to wait, and counts the crash otherwise.
func (m *Machine) backOff(d *Decision, now time.Time, c *corev1.Container, last *Container) bool {
	if last.State != Exited {
		return false
	}
	until := m.crashes[c.Name].until(last.FinishedAt, m.config.MaxBackoff)
	if now.Before(until) {
		f := m.failures[c.Name]
		if f == nil {
			f = &failure{}
			m.failures[c.Name] = f
		}
		name, news := format(m.pod), f.reason != ReasonCrashLoop || !f.until.Equal(until)
		f.reason, f.until = ReasonCrashLoop, until
		f.message = fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", m.crashes[c.Name].delay, c.Name, name)
		if news {
			d.event(corev1.EventTypeWarning, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s", c.Name, name), c.Name)
		}
		d.wake(until)
		return true
	}
	if m.crashes[c.Name] == nil {
		m.crashes[c.Name] = &backoff{}
	}
	m.crashes[c.Name].next(last.FinishedAt, now, m.config.MaxBackoff)
	return false
}

// collectDead removes instances that nobody needs: all dead ones of a name but the newest two, and sandboxes that were
// replaced and hold nothing any more.
func (m *Machine) collectDead(d *Decision) {
	if m.stage == Terminated && m.removed {
		return
	}
	seen, held := map[string]int{}, map[string]bool{}
	for i := range m.runtime.Containers {
		c := &m.runtime.Containers[i]
		seen[c.Name]++
		if seen[c.Name] > 2 && c.State == Exited {
			m.do(d, Action{Verb: RemoveContainer, Key: key(RemoveContainer, c.ID), ID: c.ID})
		}
		held[c.SandboxID] = true
	}
	for i := range m.runtime.Sandboxes {
		if s := &m.runtime.Sandboxes[i]; i > 0 && !s.Ready && !held[s.ID] {
			m.do(d, Action{Verb: RemoveSandbox, Key: key(RemoveSandbox, s.ID), ID: s.ID})
		}
	}
}

// format names a pod as log lines and messages do.
func format(p *corev1.Pod) string { return fmt.Sprintf("%s_%s(%s)", p.Name, p.Namespace, p.UID) }
