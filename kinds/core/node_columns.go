// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/kinds/table"
)

// Labels that name a node's roles.
const (
	rolePrefix = "node-role.kubernetes.io/"
	roleLabel  = "kubernetes.io/role"
)

func nodeColumns() []metav1.TableColumnDefinition {
	info, addresses := corev1.NodeSystemInfo{}.SwaggerDoc(), corev1.NodeStatus{}.SwaggerDoc()["addresses"]
	return []metav1.TableColumnDefinition{
		table.Name(),
		table.Text("Status", "The status of the node"),
		table.Text("Roles", "The roles of the node"),
		table.Age(),
		table.Text("Version", info["kubeletVersion"]),
		table.Wide(table.Text("Internal-IP", addresses)),
		table.Wide(table.Text("External-IP", addresses)),
		table.Wide(table.Text("OS-Image", info["osImage"])),
		table.Wide(table.Text("Kernel-Version", info["kernelVersion"])),
		table.Wide(table.Text("Container-Runtime", info["containerRuntimeVersion"])),
	}
}

func nodeRow(n *corev1.Node, now time.Time) []any {
	info := n.Status.NodeInfo
	kernel := orText(info.KernelVersion, table.Unknown)
	if info.Architecture != "" {
		kernel += " (" + info.Architecture + ")"
	}
	return []any{
		n.Name, nodeStatus(n), nodeRoles(n), table.Since(n.CreationTimestamp, now), info.KubeletVersion,
		nodeAddress(n, corev1.NodeInternalIP), nodeAddress(n, corev1.NodeExternalIP),
		orText(info.OSImage, table.Unknown), kernel, orText(info.ContainerRuntimeVersion, table.Unknown),
	}
}

func nodeStatus(n *corev1.Node) string {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		status = "NotReady"
		if c.Status == corev1.ConditionTrue {
			status = "Ready"
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

func nodeRoles(n *corev1.Node) string {
	var roles []string
	for key, value := range n.Labels {
		if role, ok := strings.CutPrefix(key, rolePrefix); ok && role != "" {
			roles = append(roles, role)
		} else if key == roleLabel && value != "" {
			roles = append(roles, value)
		}
	}
	if len(roles) == 0 {
		return table.None
	}
	slices.Sort(roles)
	return strings.Join(slices.Compact(roles), ",")
}

func nodeAddress(n *corev1.Node, kind corev1.NodeAddressType) string {
	for _, address := range n.Status.Addresses {
		if address.Type == kind {
			return address.Address
		}
	}
	return table.None
}

// orText returns text, or other when text is empty.
func orText(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
