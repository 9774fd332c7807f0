// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/podspec"
	"kogge.dev/kogge/kinds/table"
)

func podTemplate() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "podtemplates",
		Singular:       "podtemplate",
		AnswersDeleted: true,
		Namespaced:     true,
		Storage:        kinds.Storage{Prefix: "podtemplates"},
	}, version.WithKind("PodTemplate"),
		func() *corev1.PodTemplate { return &corev1.PodTemplate{} },
		func() runtime.Object { return &corev1.PodTemplateList{} },
		kinds.Strategy[*corev1.PodTemplate]{
			Default: func(t *corev1.PodTemplate) { podspec.DefaultTemplate(&t.Template) },
			PrepareCreate: func(_ kinds.Request, t *corev1.PodTemplate) {
				t.Generation = 1
				podspec.DropDisabled(&t.Template.Spec, nil)
			},
			PrepareUpdate: func(_ kinds.Request, new, old *corev1.PodTemplate) {
				podspec.DropDisabled(&new.Template.Spec, &old.Template.Spec)
				kinds.RaiseGeneration(new, old, new.Template, old.Template)
			},
			Validate: func(_ kinds.Request, t *corev1.PodTemplate) field.ErrorList {
				return podspec.ValidateTemplate(&t.Template, podspec.TemplateOptions(nil), field.NewPath("template"))
			},
			ValidateUpdate: func(_ kinds.Request, new, old *corev1.PodTemplate) field.ErrorList {
				return podspec.ValidateTemplate(&new.Template, podspec.TemplateOptions(&old.Template), field.NewPath("template"))
			},
			Warn: func(_ kinds.Request, new, old *corev1.PodTemplate) []string {
				if old == nil {
					return podspec.TemplateWarnings(&new.Template, nil, field.NewPath("template"))
				}
				if new.Generation == old.Generation {
					return nil
				}
				return podspec.TemplateWarnings(&new.Template, &old.Template, field.NewPath("template"))
			},
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("Containers", "Names of the containers in the template."),
				table.Text("Images", "Images of the containers in the template."),
				table.Text("Pod Labels", "Labels of the pods that the template makes."),
			},
			Row: func(t *corev1.PodTemplate, _ time.Time) []any {
				names, images := table.Containers(t.Template.Spec.Containers)
				return []any{t.Name, names, images, labels.FormatLabels(t.Template.Labels)}
			},
		})
}
