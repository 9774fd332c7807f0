// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"encoding/json"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Hash identifies the part of a container's specification whose change needs a new instance: its name and image.
func Hash(c *corev1.Container) string {
	data, err := json.Marshal(struct {
		Name  string `json:"name"`
		Image string `json:"image"`
	}{c.Name, c.Image})
	if err != nil {
		return ""
	}
	h := fnv.New32a()
	h.Write(data)
	return strconv.FormatUint(uint64(h.Sum32()), 16)
}

// restartPolicy returns what holds for a container: its own policy if it has one, else the pod's.
func (m *Machine) restartPolicy(c *corev1.Container) corev1.RestartPolicy {
	if c.RestartPolicy != nil {
		return corev1.RestartPolicy(*c.RestartPolicy)
	}
	return m.pod.Spec.RestartPolicy
}

// matchingRule returns the first restart rule that an exit code meets.
func matchingRule(c *corev1.Container, code int32) *corev1.ContainerRestartRule {
	for i := range c.RestartPolicyRules {
		rule := &c.RestartPolicyRules[i]
		if rule.ExitCodes == nil {
			continue
		}
		in := slices.Contains(rule.ExitCodes.Values, code)
		switch rule.ExitCodes.Operator {
		case corev1.ContainerRestartRuleOnExitCodesOpIn:
			if in {
				return rule
			}
		case corev1.ContainerRestartRuleOnExitCodesOpNotIn:
			if !in {
				return rule
			}
		}
	}
	return nil
}

// shouldRestart reports whether a container that exited with that code is to run again.
func (m *Machine) shouldRestart(c *corev1.Container, code int32) bool {
	if m.pod.DeletionTimestamp != nil {
		return false
	}
	return m.mayRestart(c, code)
}

// mayRestart is shouldRestart by the specification alone.
func (m *Machine) mayRestart(c *corev1.Container, code int32) bool {
	if rule := matchingRule(c, code); rule != nil {
		return true // both actions, Restart and RestartAllContainers, start it again
	}
	switch m.restartPolicy(c) {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	case corev1.RestartPolicyAlways:
	}
	return true
}

// startReset notices that a container's exit asks for a restart of all, and reports whether such a restart is under way.
func (m *Machine) startReset(now time.Time) bool {
	if m.resetDone {
		m.resetting, m.resetDone = false, false
	}
	if m.resetting {
		return true
	}
	for _, list := range [][]corev1.Container{m.pod.Spec.InitContainers, m.pod.Spec.Containers} {
		for i := range list {
			last := m.newest(list[i].Name)
			if last == nil || last.State != Exited {
				continue
			}
			rule := matchingRule(&list[i], last.ExitCode)
			if rule == nil || rule.Action != corev1.ContainerRestartRuleActionRestartAllContainers {
				continue
			}
			if until := m.crashes[list[i].Name].until(last.FinishedAt, m.config.MaxBackoff); now.Before(until) {
				continue // start() shows the delay and wakes us
			}
			m.resetting = true
			return true
		}
	}
	return false
}

// reset kills and removes every container of the pod; the next decision after that starts it from the beginning.
func (m *Machine) reset(d *Decision, now time.Time) {
	remaining := false
	for i := range m.runtime.Containers {
		c := &m.runtime.Containers[i]
		if _, kind := m.spec(c.Name); kind == Ephemeral {
			continue
		}
		remaining = true
		if c.State == Running || c.State == Unknown {
			m.kill(d, now, c, "Stopping container "+c.Name+" because all containers of the pod are restarted", killDefault)
		}
	}
	if !remaining {
		m.resetDone = true // the status of this decision still shows the restart and counts it
		d.wake(now)
		return
	}
	if len(m.kills) > 0 || m.busyWith(StartContainer) {
		return
	}
	for i := range m.runtime.Containers {
		c := &m.runtime.Containers[i]
		if _, kind := m.spec(c.Name); kind == Ephemeral {
			continue
		}
		if m.crashes[c.Name] == nil {
			m.crashes[c.Name] = &backoff{}
		}
		if !m.busy(key(RemoveContainer, c.ID)) {
			m.crashes[c.Name].next(c.FinishedAt, now, m.config.MaxBackoff)
		}
		m.do(d, Action{Verb: RemoveContainer, Key: key(RemoveContainer, c.ID), ID: c.ID})
	}
}
