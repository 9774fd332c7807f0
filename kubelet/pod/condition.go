// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of pod conditions.
const (
	reasonPodCompleted    = "PodCompleted"
	reasonPodFailed       = "PodFailed"
	reasonNotReady        = "ContainersNotReady"
	reasonNotInitialized  = "ContainersNotInitialized"
	reasonGatesNotReady   = "ReadinessGatesNotReady"
	reasonRestartAllBegan = "RestartAllContainersStarted"
)

// owned reports whether the kubelet owns a condition; all others are kept as the API object has them.
func owned(t corev1.PodConditionType) bool {
	switch t {
	case corev1.PodScheduled, corev1.PodReady, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReadyToStartContainers,
		corev1.PodResizePending, corev1.PodResizeInProgress, corev1.AllContainersRestarting:
		return true
	case corev1.DisruptionTarget:
	}
	return false
}

func (m *Machine) setConditions(s *corev1.PodStatus, now time.Time) {
	for _, c := range m.pod.Status.Conditions {
		if !owned(c.Type) {
			s.Conditions = append(s.Conditions, c)
		}
	}
	if m.end != nil {
		for _, c := range m.end.Conditions {
			m.setCondition(s, c, now)
		}
	}
	if c := findCondition(m.status.Conditions, corev1.DisruptionTarget); c != nil && findCondition(s.Conditions, c.Type) == nil {
		s.Conditions = append(s.Conditions, *c)
	}
	for _, c := range m.resizes {
		if c.Type == corev1.PodResizeInProgress && !m.Resizing() {
			continue // every container has what it was promised
		}
		m.setCondition(s, c, now)
	}
	_, changed, _ := m.sandbox()
	m.setCondition(s, condition(corev1.PodReadyToStartContainers, !changed && m.stage != Terminated, "", ""), now)
	m.setCondition(s, m.initialized(s), now)
	ready := m.containersReady(s)
	m.setCondition(s, m.podReady(s, ready), now)
	m.setCondition(s, ready, now)
	m.setCondition(s, condition(corev1.PodScheduled, true, "", ""), now)
	if c, ok := m.restartingAll(s); ok {
		m.setCondition(s, c, now)
	}
}

func condition(t corev1.PodConditionType, holds bool, reason, message string) corev1.PodCondition {
	c := corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message}
	if holds {
		c.Status = corev1.ConditionTrue
	}
	return c
}

// setCondition adds or replaces a condition; its transition time moves only when its status does.
func (m *Machine) setCondition(s *corev1.PodStatus, c corev1.PodCondition, now time.Time) {
	c.ObservedGeneration = m.pod.Generation
	if old := findCondition(m.status.Conditions, c.Type); old != nil && old.Status == c.Status && !old.LastTransitionTime.IsZero() {
		c.LastTransitionTime = old.LastTransitionTime
	} else {
		c.LastTransitionTime = metav1.NewTime(now).Rfc3339Copy()
	}
	if i := slices.IndexFunc(s.Conditions, func(have corev1.PodCondition) bool { return have.Type == c.Type }); i >= 0 {
		s.Conditions[i] = c
		return
	}
	s.Conditions = append(s.Conditions, c)
}

func findCondition(list []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}

func (m *Machine) initialized(s *corev1.PodStatus) corev1.PodCondition {
	var unknown, incomplete []string
	for i := range m.pod.Spec.InitContainers {
		c := &m.pod.Spec.InitContainers[i]
		status := findIn(s.InitContainerStatuses, c.Name)
		switch {
		case status == nil:
			unknown = append(unknown, c.Name)
		case IsSidecar(c) && (status.Started == nil || !*status.Started), !IsSidecar(c) && !status.Ready:
			incomplete = append(incomplete, c.Name)
		}
	}
	if s.Phase == corev1.PodSucceeded && len(unknown) == 0 {
		return condition(corev1.PodInitialized, true, reasonPodCompleted, "")
	}
	if len(m.pod.Spec.InitContainers) == 0 || m.regularStarted(s) {
		return condition(corev1.PodInitialized, true, "", "")
	}
	message := unreadyMessage(unknown, incomplete, "incomplete")
	if message == "" {
		return condition(corev1.PodInitialized, true, "", "")
	}
	if old := findCondition(m.status.Conditions, corev1.PodInitialized); old != nil && old.Status == corev1.ConditionTrue {
		return condition(corev1.PodInitialized, true, "", "") // once initialized, a pod stays so
	}
	return condition(corev1.PodInitialized, false, reasonNotInitialized, message)
}

// regularStarted reports whether a regular container runs or ran.
func (m *Machine) regularStarted(s *corev1.PodStatus) bool {
	return slices.ContainsFunc(s.ContainerStatuses, func(c corev1.ContainerStatus) bool {
		return c.State.Running != nil || c.State.Terminated != nil || c.LastTerminationState.Terminated != nil
	})
}

func unreadyMessage(unknown, unready []string, what string) string {
	var parts []string
	if len(unknown) > 0 {
		parts = append(parts, fmt.Sprintf("containers with unknown status: %s", unknown))
	}
	if len(unready) > 0 {
		parts = append(parts, fmt.Sprintf("containers with %s status: %s", what, unready))
	}
	return strings.Join(parts, ", ")
}

func (m *Machine) containersReady(s *corev1.PodStatus) corev1.PodCondition {
	var unknown, unready []string
	check := func(c *corev1.Container, list []corev1.ContainerStatus) {
		switch status := findIn(list, c.Name); {
		case status == nil:
			unknown = append(unknown, c.Name)
		case !status.Ready:
			unready = append(unready, c.Name)
		}
	}
	for i := range m.pod.Spec.InitContainers {
		if c := &m.pod.Spec.InitContainers[i]; IsSidecar(c) {
			check(c, s.InitContainerStatuses)
		}
	}
	for i := range m.pod.Spec.Containers {
		check(&m.pod.Spec.Containers[i], s.ContainerStatuses)
	}
	switch {
	case s.Phase == corev1.PodSucceeded && len(unknown) == 0:
		return condition(corev1.ContainersReady, false, reasonPodCompleted, "")
	case s.Phase == corev1.PodFailed:
		return condition(corev1.ContainersReady, false, reasonPodFailed, "")
	}
	if message := unreadyMessage(unknown, unready, "unready"); message != "" {
		return condition(corev1.ContainersReady, false, reasonNotReady, message)
	}
	return condition(corev1.ContainersReady, true, "", "")
}

func (m *Machine) podReady(s *corev1.PodStatus, ready corev1.PodCondition) corev1.PodCondition {
	if ready.Status != corev1.ConditionTrue {
		ready.Type = corev1.PodReady
		return ready
	}
	var missing []string
	for _, gate := range m.pod.Spec.ReadinessGates {
		switch c := findCondition(s.Conditions, gate.ConditionType); {
		case c == nil:
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		case c.Status != corev1.ConditionTrue:
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, c.Status))
		}
	}
	if len(missing) > 0 {
		return condition(corev1.PodReady, false, reasonGatesNotReady, strings.Join(missing, ", "))
	}
	return condition(corev1.PodReady, true, "", "")
}

// restartingAll is shown for pods that have a rule to restart all containers.
func (m *Machine) restartingAll(s *corev1.PodStatus) (corev1.PodCondition, bool) {
	has := false
	for _, list := range [][]corev1.Container{m.pod.Spec.InitContainers, m.pod.Spec.Containers} {
		for i := range list {
			has = has || slices.ContainsFunc(list[i].RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
				return r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
			})
		}
	}
	switch {
	case !has:
		return corev1.PodCondition{}, false
	case s.Phase == corev1.PodSucceeded:
		return condition(corev1.AllContainersRestarting, false, reasonPodCompleted, ""), true
	case s.Phase == corev1.PodFailed:
		return condition(corev1.AllContainersRestarting, false, reasonPodFailed, ""), true
	case m.resetting:
		return condition(corev1.AllContainersRestarting, true, reasonRestartAllBegan, "container exited with restart policy rule"), true
	}
	return condition(corev1.AllContainersRestarting, false, "", ""), true
}

// SortIPs returns at most one address of each family, the family of the node's first address leading.
func SortIPs(ips, hostIPs []string) []string {
	first4 := true
	if len(hostIPs) > 0 {
		if a, err := netip.ParseAddr(hostIPs[0]); err == nil {
			first4 = a.Unmap().Is4()
		}
	}
	var v4, v6 string
	for _, text := range ips {
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil:
		case a.Unmap().Is4() && v4 == "":
			v4 = a.Unmap().String()
		case !a.Unmap().Is4() && v6 == "":
			v6 = a.String()
		}
	}
	out := make([]string, 0, 2)
	pair := [2]string{v4, v6}
	if !first4 {
		pair = [2]string{v6, v4}
	}
	for _, ip := range pair {
		if ip != "" {
			out = append(out, ip)
		}
	}
	return out
}
