// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/kinds/table"
)

func serviceColumns() []metav1.TableColumnDefinition {
	doc := corev1.ServiceSpec{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		table.Name(),
		table.Text("Type", doc["type"]),
		table.Text("Cluster-IP", doc["clusterIP"]),
		table.Text("External-IP", doc["externalIPs"]),
		table.Text("Port(s)", doc["ports"]),
		table.Age(),
		table.Wide(table.Text("Selector", doc["selector"])),
	}
}

func serviceRow(s *corev1.Service, now time.Time) []any {
	clusterIP := table.None
	if len(s.Spec.ClusterIPs) > 0 {
		clusterIP = s.Spec.ClusterIPs[0]
	}
	ports := make([]string, len(s.Spec.Ports))
	for i, port := range s.Spec.Ports {
		if port.NodePort > 0 {
			ports[i] = fmt.Sprintf("%d:%d/%s", port.Port, port.NodePort, port.Protocol)
		} else {
			ports[i] = fmt.Sprintf("%d/%s", port.Port, port.Protocol)
		}
	}
	return []any{
		s.Name, string(s.Spec.Type), clusterIP, externalAddress(s), orText(strings.Join(ports, ","), table.None),
		table.Since(s.CreationTimestamp, now), labels.FormatLabels(s.Spec.Selector),
	}
}

// externalAddress says where a Service is reached from outside; "<pending>" while a load balancer has yet to be made.
func externalAddress(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return orText(strings.Join(s.Spec.ExternalIPs, ","), table.None)
	case corev1.ServiceTypeLoadBalancer:
		var ingress []string
		for _, i := range s.Status.LoadBalancer.Ingress {
			if address := orText(i.IP, i.Hostname); address != "" {
				ingress = append(ingress, address)
			}
		}
		slices.Sort(ingress)
		return orText(strings.Join(append(slices.Compact(ingress), s.Spec.ExternalIPs...), ","), "<pending>")
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	}
	return table.Unknown
}
