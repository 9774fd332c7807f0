// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/objectmeta"
	"kogge.dev/kogge/kinds/table"
)

func namespace() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:     "namespaces",
		Singular:     "namespace",
		Reset:        map[string][]string{"finalize": {"status"}},
		ShortNames:   []string{"ns"},
		NoGeneration: true,
		Verbs:        []string{"create", "delete", "get", "list", "patch", "update", "watch"},
		ValidateName: objectmeta.Label,
		Storage:      kinds.Storage{Prefix: "namespaces"},
		Subresources: []kinds.Subresource{
			{
				Name:     "finalize",
				Verbs:    []string{"update"},
				Prepare:  kinds.Pair(func(_ kinds.Request, new, old *corev1.Namespace) { new.Status = old.Status }),
				Validate: kinds.Judge(validateNamespaceFinalize),
			},
			kinds.Status(
				func(_ kinds.Request, new, old *corev1.Namespace) { new.Spec = old.Spec },
				validateNamespaceStatus,
			),
		},
	}, version.WithKind("Namespace"),
		func() *corev1.Namespace { return &corev1.Namespace{} },
		func() runtime.Object { return &corev1.NamespaceList{} },
		kinds.Strategy[*corev1.Namespace]{
			Default:       defaultNamespace,
			PrepareCreate: createNamespace,
			PrepareUpdate: func(_ kinds.Request, new, old *corev1.Namespace) {
				new.Spec.Finalizers = old.Spec.Finalizers
				new.Status = old.Status
				labelNamespace(new)
			},
			Validate: validateNamespace,
			ValidateUpdate: func(req kinds.Request, new, _ *corev1.Namespace) field.ErrorList {
				return validateNamespace(req, new)
			},
			Fields: func(ns *corev1.Namespace) fields.Set {
				return fields.Set{"status.phase": string(ns.Status.Phase)}
			},
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("Status", "The status of the namespace"),
				table.Age(),
			},
			Row: func(ns *corev1.Namespace, now time.Time) []any {
				return []any{ns.Name, string(ns.Status.Phase), table.Since(ns.CreationTimestamp, now)}
			},
		})
}

func defaultNamespace(ns *corev1.Namespace) {
	if ns.Name != "" { // not yet known when the name is to be generated
		labelNamespace(ns)
	}
	if ns.Status.Phase == "" {
		ns.Status.Phase = corev1.NamespaceActive
	}
}

// labelNamespace lets selectors find the namespace by its name.
func labelNamespace(ns *corev1.Namespace) {
	if ns.Labels == nil {
		ns.Labels = map[string]string{}
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

// createNamespace adds the finalizer that keeps a deleted namespace until it is empty. It is no default, since it goes
// away in the end.
func createNamespace(_ kinds.Request, ns *corev1.Namespace) {
	ns.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		ns.Spec.Finalizers = append(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
	if ns.Name != "" && len(validation.IsValidLabelValue(ns.Name)) == 0 { // what is wrong with a name is said once, as such
		labelNamespace(ns)
	}
}

func validateNamespace(_ kinds.Request, ns *corev1.Namespace) field.ErrorList {
	var errs field.ErrorList
	for _, name := range ns.Spec.Finalizers {
		errs = append(errs, objectmeta.ValidateFinalizer(string(name), field.NewPath("spec", "finalizers"))...)
	}
	return errs
}

func validateNamespaceFinalize(_ kinds.Request, new, _ *corev1.Namespace) field.ErrorList {
	var errs field.ErrorList
	for i, name := range new.Spec.Finalizers {
		errs = append(errs, objectmeta.ValidateFinalizer(string(name), field.NewPath("spec", "finalizers").Index(i))...)
	}
	return errs
}

// validateNamespaceStatus ties the phase to the deletion timestamp.
func validateNamespaceStatus(_ kinds.Request, new, _ *corev1.Namespace) field.ErrorList {
	phase := field.NewPath("status", "Phase")
	if new.DeletionTimestamp.IsZero() {
		if new.Status.Phase != corev1.NamespaceActive {
			return field.ErrorList{field.Invalid(phase, new.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")}
		}
	} else if new.Status.Phase != corev1.NamespaceTerminating {
		return field.ErrorList{field.Invalid(phase, new.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")}
	}
	return nil
}
