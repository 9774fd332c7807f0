// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package apiextensions describes the kinds of the apiextensions.k8s.io API group: definitions of further kinds.
package apiextensions

import (
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

// webhookPort is where a conversion webhook is reached when its Service names no port.
const webhookPort = 443

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind { return []*kinds.Kind{customResourceDefinition()} }

func customResourceDefinition() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:              "customresourcedefinitions",
		Singular:              "customresourcedefinition",
		FreeFinalizers:        true,
		ShortNames:            []string{"crd", "crds"},
		Categories:            []string{"api-extensions"},
		ConditionalUpdateOnly: true,
		Storage: kinds.Storage{
			Prefix: "apiextensions.k8s.io/customresourcedefinitions", Packed: true,
			Bulk: []int{2, 7, 4}, // spec.versions.schema
		},
		Subresources: []kinds.Subresource{
			kinds.Status(func(_ kinds.Request, new, old *apiextensionsv1.CustomResourceDefinition) { new.Spec = old.Spec }, validateStatus),
		},
	}, apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"),
		func() *apiextensionsv1.CustomResourceDefinition { return &apiextensionsv1.CustomResourceDefinition{} },
		func() runtime.Object { return &apiextensionsv1.CustomResourceDefinitionList{} },
		kinds.Strategy[*apiextensionsv1.CustomResourceDefinition]{
			Default: defaultDefinition,
			PrepareCreate: func(_ kinds.Request, d *apiextensionsv1.CustomResourceDefinition) {
				d.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
				d.Generation = 1
				recordStoredVersion(d)
			},
			PrepareUpdate: func(_ kinds.Request, new, old *apiextensionsv1.CustomResourceDefinition) {
				new.Status = *old.Status.DeepCopy()
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
				recordStoredVersion(new)
			},
			BeginDelete: beginDelete,
			Validate: func(_ kinds.Request, d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
				_, errs := Validate(d, nil)
				return errs
			},
			ValidateUpdate: func(_ kinds.Request, new, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
				_, errs := Validate(new, old)
				return errs
			},
			Warn:    warn,
			Columns: table.CreatedColumns(),
			Row:     table.CreatedRow[*apiextensionsv1.CustomResourceDefinition],
		})
}

// recordStoredVersion notes the version that objects are stored in from now on.
func recordStoredVersion(d *apiextensionsv1.CustomResourceDefinition) {
	for _, v := range d.Spec.Versions {
		if v.Storage {
			if !slices.Contains(d.Status.StoredVersions, v.Name) {
				d.Status.StoredVersions = append(d.Status.StoredVersions, v.Name)
			}
			return
		}
	}
}

func defaultDefinition(d *apiextensionsv1.CustomResourceDefinition) {
	names := &d.Spec.Names
	if names.Singular == "" {
		names.Singular = strings.ToLower(names.Kind)
	}
	if names.ListKind == "" && names.Kind != "" {
		names.ListKind = names.Kind + "List"
	}
	if d.Spec.Conversion == nil {
		d.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.NoneConverter}
	}
	if w := d.Spec.Conversion.Webhook; w != nil && w.ClientConfig == nil && w.ConversionReviewVersions == nil {
		d.Spec.Conversion.Webhook = nil
	}
	if w := d.Spec.Conversion.Webhook; w != nil && w.ClientConfig != nil && w.ClientConfig.Service != nil && w.ClientConfig.Service.Port == nil {
		w.ClientConfig.Service.Port = ptr.To[int32](webhookPort)
	}
	if len(d.Status.StoredVersions) == 0 {
		recordStoredVersion(d)
	}
}

// beginDelete holds a definition until its objects are gone, and says so before anybody has deleted one.
func beginDelete(d *apiextensionsv1.CustomResourceDefinition, now metav1.Time) {
	d.DeletionTimestamp = &now
	if !slices.Contains(d.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer) {
		d.Finalizers = append(d.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer)
	}
	apihelpers.SetCRDCondition(d, apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue, Reason: "InstanceDeletionPending",
		Message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon", LastTransitionTime: now,
	})
}
