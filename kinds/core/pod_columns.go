// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/kinds/table"
)

// nodeLost is the reason in the status of pods whose node does not answer.
const nodeLost = "NodeLost"

func podColumns() []metav1.TableColumnDefinition {
	spec, status := corev1.PodSpec{}.SwaggerDoc(), corev1.PodStatus{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		table.Name(),
		table.Text("Ready", "How many of the pod's containers are ready to serve."),
		table.Text("Status", "What the containers of the pod are doing together."),
		table.Text("Restarts", "How often the pod's containers have been restarted, and when that happened last."),
		table.Age(),
		table.Wide(table.Text("IP", status["podIP"])),
		table.Wide(table.Text("Node", spec["nodeName"])),
		table.Wide(table.Text("Nominated Node", status["nominatedNodeName"])),
		table.Wide(table.Text("Readiness Gates", spec["readinessGates"])),
	}
}

// podSummary collects what a row says about a pod's containers.
type podSummary struct {
	ready    int
	restarts restarts
	status   string
}

// restarts counts how often containers ended, and when the last one did.
type restarts struct {
	count int
	last  metav1.Time
}

func (r *restarts) add(c *corev1.ContainerStatus) {
	r.count += int(c.RestartCount)
	if end := c.LastTerminationState.Terminated; end != nil && r.last.Before(&end.FinishedAt) {
		r.last = end.FinishedAt
	}
}

func (r *restarts) text(now time.Time) string {
	if r.count == 0 || r.last.IsZero() {
		return strconv.Itoa(r.count)
	}
	return fmt.Sprintf("%d (%s ago)", r.count, table.Since(r.last, now))
}

// podRowConditions say of a pod that has ended that it has.
func podRowConditions(p *corev1.Pod) []metav1.TableRowCondition {
	completed := metav1.TableRowCondition{Type: metav1.RowCompleted, Status: metav1.ConditionTrue, Reason: string(p.Status.Phase)}
	switch p.Status.Phase {
	case corev1.PodSucceeded:
		completed.Message = "The pod has completed successfully."
	case corev1.PodFailed:
		completed.Message = "The pod failed."
	default:
		return nil
	}
	return []metav1.TableRowCondition{completed}
}

func podRow(p *corev1.Pod, now time.Time) []any {
	summary := summarise(p)
	total := len(p.Spec.Containers)
	for i := range p.Spec.InitContainers {
		if isSidecar(&p.Spec.InitContainers[i]) {
			total++
		}
	}
	ip := ""
	if len(p.Status.PodIPs) > 0 {
		ip = p.Status.PodIPs[0].IP
	}
	return []any{
		p.Name, fmt.Sprintf("%d/%d", summary.ready, total), summary.status, summary.restarts.text(now), table.Since(p.CreationTimestamp, now),
		orText(ip, table.None), orText(p.Spec.NodeName, table.None), orText(p.Status.NominatedNodeName, table.None), readinessGates(p),
	}
}

func summarise(p *corev1.Pod) podSummary {
	s := podSummary{status: orText(p.Status.Reason, string(p.Status.Phase))}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			s.status = corev1.PodReasonSchedulingGated
		}
	}
	sidecars, initializing := s.addInit(p)
	if !initializing || hasCondition(p, corev1.PodInitialized) {
		s.restarts = sidecars // those of finished init containers are of no interest any more
		s.addMain(p)
	}
	switch {
	case p.DeletionTimestamp == nil:
	case p.Status.Reason == nodeLost:
		s.status = "Unknown"
	case p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed:
		s.status = "Terminating"
	}
	return s
}

// addInit looks for the first init container that is not done. It returns the restarts of sidecars alone.
func (s *podSummary) addInit(p *corev1.Pod) (sidecars restarts, initializing bool) {
	for i := range p.Status.InitContainerStatuses {
		c := &p.Status.InitContainerStatuses[i]
		s.restarts.add(c)
		sidecar := sidecarNamed(p, c.Name)
		if sidecar {
			sidecars.add(c)
		}
		end := c.State.Terminated
		switch {
		case end != nil && end.ExitCode == 0:
			continue
		case sidecar && c.Started != nil && *c.Started:
			if c.Ready {
				s.ready++
			}
			continue
		case end != nil:
			s.status = "Init:" + terminated(end)
		case c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "PodInitializing":
			s.status = "Init:" + c.State.Waiting.Reason
		default:
			s.status = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return sidecars, true
	}
	return sidecars, false
}

// addMain goes through the containers from the last to the first, so that the first one that has something to say says it.
func (s *podSummary) addMain(p *corev1.Pod) {
	running, failure := false, ""
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := &p.Status.ContainerStatuses[i]
		s.restarts.add(c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.status = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			s.status = terminated(c.State.Terminated)
			if c.State.Terminated.ExitCode != 0 {
				failure = s.status
			}
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.status != "Completed" {
		return
	}
	switch {
	case running && hasCondition(p, corev1.PodReady):
		s.status = "Running"
	case failure != "":
		s.status = failure
	case running:
		s.status = "NotReady"
	}
}

func terminated(end *corev1.ContainerStateTerminated) string {
	switch {
	case end.Reason != "":
		return end.Reason
	case end.Signal != 0:
		return fmt.Sprintf("Signal:%d", end.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", end.ExitCode)
}

func readinessGates(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return table.None
	}
	met := 0
	for _, gate := range p.Spec.ReadinessGates {
		if hasCondition(p, gate.ConditionType) {
			met++
		}
	}
	return fmt.Sprintf("%d/%d", met, len(p.Spec.ReadinessGates))
}

// hasCondition reports whether the first condition of a type is true.
func hasCondition(p *corev1.Pod, kind corev1.PodConditionType) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func sidecarNamed(p *corev1.Pod, name string) bool {
	for i := range p.Spec.InitContainers {
		if p.Spec.InitContainers[i].Name == name {
			return isSidecar(&p.Spec.InitContainers[i])
		}
	}
	return false
}

// isSidecar reports whether an init container keeps running beside the main ones.
func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
