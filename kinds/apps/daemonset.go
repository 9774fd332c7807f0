// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

func daemonSet() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:        "daemonsets",
		Singular:        "daemonset",
		ShortNames:      []string{"ds"},
		Categories:      all(),
		Namespaced:      true,
		FormAnnotations: []string{appsv1.DeprecatedTemplateGeneration},
		Storage:         kinds.Storage{Prefix: "daemonsets"},
		Subresources: []kinds.Subresource{
			kinds.Status(prepareDaemonSetStatus, validateDaemonSetStatus),
		},
	}, version.WithKind("DaemonSet"),
		func() *appsv1.DaemonSet { return &appsv1.DaemonSet{} },
		func() runtime.Object { return &appsv1.DaemonSetList{} },
		kinds.Strategy[*appsv1.DaemonSet]{
			Default: defaultDaemonSet,
			PrepareCreate: func(_ kinds.Request, ds *appsv1.DaemonSet) {
				ds.Status = appsv1.DaemonSetStatus{}
				ds.Generation = 1
				dropTemplate(&ds.Spec.Template, nil)
				setTemplateGeneration(ds, max(1, templateGeneration(ds)))
			},
			PrepareUpdate:  prepareDaemonSet,
			Validate:       validateDaemonSet,
			ValidateUpdate: validateDaemonSetUpdate,
			Warn:           warnDaemonSet,
			Columns:        daemonSetColumns(),
			Row:            daemonSetRow,
		})
}

// prepareDaemonSet counts changes of the template apart from those of the rest of the spec: the count lives in an
// annotation that clients can't change.
func prepareDaemonSet(_ kinds.Request, new, old *appsv1.DaemonSet) {
	new.Status = old.Status
	dropTemplate(&new.Spec.Template, &old.Spec.Template)
	count := templateGeneration(old)
	if !equal.Semantic(new.Spec.Template, old.Spec.Template) {
		count++
	}
	setTemplateGeneration(new, count)
	kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
}

func prepareDaemonSetStatus(_ kinds.Request, new, old *appsv1.DaemonSet) {
	new.Spec = old.Spec
	setTemplateGeneration(new, templateGeneration(old))
}

func daemonSetColumns() []metav1.TableColumnDefinition {
	status := appsv1.DaemonSetStatus{}.SwaggerDoc()
	return append([]metav1.TableColumnDefinition{
		table.Name(),
		table.Number("Desired", status["desiredNumberScheduled"]),
		table.Number("Current", status["currentNumberScheduled"]),
		table.Number("Ready", status["numberReady"]),
		table.Number("Up-to-date", status["updatedNumberScheduled"]),
		table.Number("Available", status["numberAvailable"]),
		table.Text("Node Selector", corev1.PodSpec{}.SwaggerDoc()["nodeSelector"]),
		table.Age(),
	}, table.Pods(appsv1.DaemonSetSpec{}.SwaggerDoc()["selector"])...)
}

func daemonSetRow(ds *appsv1.DaemonSet, now time.Time) []any {
	names, images := table.Containers(ds.Spec.Template.Spec.Containers)
	return []any{
		ds.Name,
		int64(ds.Status.DesiredNumberScheduled),
		int64(ds.Status.CurrentNumberScheduled),
		int64(ds.Status.NumberReady),
		int64(ds.Status.UpdatedNumberScheduled),
		int64(ds.Status.NumberAvailable),
		labels.FormatLabels(ds.Spec.Template.Spec.NodeSelector),
		table.Since(ds.CreationTimestamp, now),
		names, images, metav1.FormatLabelSelector(ds.Spec.Selector),
	}
}
