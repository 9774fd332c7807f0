// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/podspec"
	"kogge.dev/kogge/kinds/table"
)

func resourceQuota() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "resourcequotas",
		Singular:       "resourcequota",
		AnswersDeleted: true,
		ShortNames:     []string{"quota"},
		Namespaced:     true,
		NoGeneration:   true,
		Storage:        kinds.Storage{Prefix: "resourcequotas"},
		Subresources: []kinds.Subresource{
			kinds.Status(
				func(_ kinds.Request, new, old *corev1.ResourceQuota) { new.Spec = old.Spec },
				validateQuotaStatus,
			),
		},
	}, version.WithKind("ResourceQuota"),
		func() *corev1.ResourceQuota { return &corev1.ResourceQuota{} },
		func() runtime.Object { return &corev1.ResourceQuotaList{} },
		kinds.Strategy[*corev1.ResourceQuota]{
			Default: func(q *corev1.ResourceQuota) {
				podspec.RoundUp(q.Spec.Hard)
				podspec.RoundUp(q.Status.Hard)
				podspec.RoundUp(q.Status.Used)
			},
			PrepareCreate:  func(_ kinds.Request, q *corev1.ResourceQuota) { q.Status = corev1.ResourceQuotaStatus{} },
			PrepareUpdate:  func(_ kinds.Request, new, old *corev1.ResourceQuota) { new.Status = old.Status },
			Validate:       validateQuota,
			ValidateUpdate: validateQuotaUpdate,
			Warn:           warnQuota,
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("Request", "What containers may request together, and how much of it they do."),
				table.Text("Limit", "What containers may be limited to together, and how much of it they are."),
				table.Age(),
			},
			Row: quotaRow,
		})
}

func quotaRow(q *corev1.ResourceQuota, now time.Time) []any {
	var requests, limits []string
	for _, name := range slices.Sorted(maps.Keys(q.Status.Hard)) {
		used, hard := q.Status.Used[name], q.Status.Hard[name]
		text := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
		if strings.HasPrefix(string(name), "limits.") {
			limits = append(limits, text)
		} else {
			requests = append(requests, text)
		}
	}
	return []any{q.Name, strings.Join(requests, ", "), strings.Join(limits, ", "), table.Since(q.CreationTimestamp, now)}
}

// warnQuota warns of requests that are allowed more than limits.
func warnQuota(_ kinds.Request, new, old *corev1.ResourceQuota) []string {
	if old != nil {
		return nil
	}
	var warnings []string
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceStorage, corev1.ResourceEphemeralStorage} {
		requestName, limitName := "requests."+name, "limits."+name
		request, ok := new.Spec.Hard[requestName]
		if !ok && (name == corev1.ResourceCPU || name == corev1.ResourceMemory) {
			requestName = name
			request, ok = new.Spec.Hard[requestName]
		}
		limit, limited := new.Spec.Hard[limitName]
		if ok && limited && request.Cmp(limit) > 0 {
			warnings = append(warnings, fmt.Sprintf("ResourceQuota %s (%s) should be less than %s (%s)", requestName, request.String(), limitName, limit.String()))
		}
	}
	return warnings
}
