// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/kinds/table"
)

func eventColumns() []metav1.TableColumnDefinition {
	doc := corev1.Event{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		table.Text("Last Seen", doc["lastTimestamp"]),
		table.Text("Type", doc["type"]),
		table.Text("Reason", doc["reason"]),
		table.Text("Object", doc["involvedObject"]),
		table.Wide(table.Text("Subobject", corev1.ObjectReference{}.SwaggerDoc()["fieldPath"])),
		table.Wide(table.Text("Source", doc["source"])),
		table.Text("Message", doc["message"]),
		table.Wide(table.Text("First Seen", doc["firstTimestamp"])),
		table.Wide(table.Text("Count", doc["count"])),
		table.Wide(table.Name()),
	}
}

func eventRow(e *corev1.Event, now time.Time) []any {
	first := table.Since(e.FirstTimestamp, now)
	if e.FirstTimestamp.IsZero() {
		first = table.Since(metav1.Time{Time: e.EventTime.Time}, now)
	}
	last := table.Since(e.LastTimestamp, now)
	if e.LastTimestamp.IsZero() {
		last = first
	}
	count := e.Count
	if e.Series != nil {
		last = table.Since(metav1.Time{Time: e.Series.LastObservedTime.Time}, now)
		count = e.Series.Count
	} else if count == 0 {
		count = 1 // an event that happened once has no count in the newer form
	}
	target := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		target += "/" + e.InvolvedObject.Name
	}
	return []any{
		last, e.Type, e.Reason, target, e.InvolvedObject.FieldPath, eventSource(e), strings.TrimSpace(e.Message),
		first, int64(count), e.Name,
	}
}

func eventSource(e *corev1.Event) string {
	component, host := e.Source.Component, e.Source.Host
	if component == "" {
		component = e.ReportingController
	}
	if host == "" {
		host = e.ReportingInstance
	}
	if host == "" {
		return component
	}
	return component + ", " + host
}
