// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/kinds/table"
)

func deploymentColumns() []metav1.TableColumnDefinition {
	status := appsv1.DeploymentStatus{}.SwaggerDoc()
	return append([]metav1.TableColumnDefinition{
		table.Name(),
		table.Text("Ready", "Number of the pod with ready state"),
		table.Text("Up-to-date", status["updatedReplicas"]),
		table.Text("Available", status["availableReplicas"]),
		table.Age(),
	}, table.Pods(appsv1.DeploymentSpec{}.SwaggerDoc()["selector"])...)
}

func deploymentRow(d *appsv1.Deployment, now time.Time) []any {
	names, images := table.Containers(d.Spec.Template.Spec.Containers)
	selector := "<invalid>"
	if s, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil {
		selector = s.String()
	}
	return []any{
		d.Name,
		fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, deref(d.Spec.Replicas)),
		int64(d.Status.UpdatedReplicas),
		int64(d.Status.AvailableReplicas),
		table.Since(d.CreationTimestamp, now),
		names, images, selector,
	}
}

// deref returns the number that p points to, or zero.
func deref(p *int32) int32 {
	if p == nil {
		return 0
	}
	return *p
}

// selectorText writes a label selector as Scale carries it: empty when it can't be read.
func selectorText(selector *metav1.LabelSelector) string {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return ""
	}
	return s.String()
}
