// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"maps"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/objectmeta"
	"kogge.dev/kogge/kinds/podspec"
	"kogge.dev/kogge/kinds/table"
)

func replicationController() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:        "replicationcontrollers",
		Singular:        "replicationcontroller",
		ValidateName:    objectmeta.NotPrefix,
		ShortNames:      []string{"rc"},
		Categories:      all(),
		Namespaced:      true,
		OrphanByDefault: true,
		Storage:         kinds.Storage{Prefix: "controllers"},
		Subresources: []kinds.Subresource{
			kinds.Scalable(
				func(rc *corev1.ReplicationController) (int32, int32, string) {
					return ptr.Deref(rc.Spec.Replicas, 0), rc.Status.Replicas, labels.SelectorFromSet(rc.Spec.Selector).String()
				},
				func(rc *corev1.ReplicationController, replicas int32) { rc.Spec.Replicas = &replicas },
			),
			kinds.Status(
				func(_ kinds.Request, new, old *corev1.ReplicationController) { new.Spec = old.Spec },
				validateControllerStatus,
			),
		},
	}, version.WithKind("ReplicationController"),
		func() *corev1.ReplicationController { return &corev1.ReplicationController{} },
		func() runtime.Object { return &corev1.ReplicationControllerList{} },
		kinds.Strategy[*corev1.ReplicationController]{
			Default: defaultController,
			PrepareCreate: func(_ kinds.Request, rc *corev1.ReplicationController) {
				rc.Status = corev1.ReplicationControllerStatus{}
				rc.Generation = 1
				if rc.Spec.Template != nil {
					podspec.DropDisabled(&rc.Spec.Template.Spec, nil)
				}
			},
			PrepareUpdate:  prepareController,
			Validate:       validateController,
			ValidateUpdate: validateControllerUpdate,
			Warn:           warnController,
			Fields: func(rc *corev1.ReplicationController) fields.Set {
				return fields.Set{"status.replicas": strconv.Itoa(int(rc.Status.Replicas))}
			},
			Columns: controllerColumns(),
			Row:     controllerRow,
		})
}

// defaultController takes over the template's labels, as selector and as its own.
func defaultController(rc *corev1.ReplicationController) {
	if rc.Spec.Replicas == nil {
		rc.Spec.Replicas = ptr.To[int32](1)
	}
	template := rc.Spec.Template
	if template == nil {
		return
	}
	if template.Labels != nil {
		if len(rc.Spec.Selector) == 0 {
			rc.Spec.Selector = maps.Clone(template.Labels)
		}
		if len(rc.Labels) == 0 {
			rc.Labels = maps.Clone(template.Labels)
		}
	}
	podspec.DefaultTemplate(template)
}

func prepareController(_ kinds.Request, new, old *corev1.ReplicationController) {
	new.Status = old.Status
	if new.Spec.Template != nil {
		var before *corev1.PodSpec
		if old.Spec.Template != nil {
			before = &old.Spec.Template.Spec
		}
		podspec.DropDisabled(&new.Spec.Template.Spec, before)
	}
	kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
}

func warnController(_ kinds.Request, new, old *corev1.ReplicationController) []string {
	path := field.NewPath("spec", "template")
	if old == nil {
		var warnings []string
		if msgs := validation.IsDNS1123Label(new.Name); len(msgs) > 0 {
			warnings = append(warnings, fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
		}
		return append(warnings, podspec.TemplateWarnings(new.Spec.Template, nil, path)...)
	}
	if new.Generation == old.Generation {
		return nil
	}
	return podspec.TemplateWarnings(new.Spec.Template, old.Spec.Template, path)
}

func controllerColumns() []metav1.TableColumnDefinition {
	spec, status := corev1.ReplicationControllerSpec{}.SwaggerDoc(), corev1.ReplicationControllerStatus{}.SwaggerDoc()
	return append([]metav1.TableColumnDefinition{
		table.Name(),
		table.Number("Desired", spec["replicas"]),
		table.Number("Current", status["replicas"]),
		table.Number("Ready", status["readyReplicas"]),
		table.Age(),
	}, table.Pods(spec["selector"])...)
}

func controllerRow(rc *corev1.ReplicationController, now time.Time) []any {
	var containers []corev1.Container
	if rc.Spec.Template != nil {
		containers = rc.Spec.Template.Spec.Containers
	}
	names, images := table.Containers(containers)
	return []any{
		rc.Name, int64(ptr.Deref(rc.Spec.Replicas, 0)), int64(rc.Status.Replicas), int64(rc.Status.ReadyReplicas),
		table.Since(rc.CreationTimestamp, now), names, images, labels.FormatLabels(rc.Spec.Selector),
	}
}
