// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/podspec"
	"kogge.dev/kogge/kinds/table"
)

func persistentVolumeClaim() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "persistentvolumeclaims",
		Singular:       "persistentvolumeclaim",
		AnswersDeleted: true,
		ShortNames:     []string{"pvc"},
		Namespaced:     true,
		NoGeneration:   true,
		Storage:        kinds.Storage{Prefix: "persistentvolumeclaims"},
		Subresources: []kinds.Subresource{
			kinds.Status(
				func(_ kinds.Request, new, old *corev1.PersistentVolumeClaim) { new.Spec = old.Spec },
				validateClaimStatus,
			),
		},
	}, version.WithKind("PersistentVolumeClaim"),
		func() *corev1.PersistentVolumeClaim { return &corev1.PersistentVolumeClaim{} },
		func() runtime.Object { return &corev1.PersistentVolumeClaimList{} },
		kinds.Strategy[*corev1.PersistentVolumeClaim]{
			Default: podspec.DefaultClaim,
			PrepareCreate: func(_ kinds.Request, c *corev1.PersistentVolumeClaim) {
				c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
				prepareSources(&c.Spec, nil)
			},
			PrepareUpdate: func(_ kinds.Request, new, old *corev1.PersistentVolumeClaim) {
				new.Status = old.Status
				prepareSources(&new.Spec, &old.Spec)
			},
			Validate:       validateClaim,
			ValidateUpdate: validateClaimUpdate,
			Warn:           warnClaim,
			Columns:        claimColumns(),
			Row:            claimRow,
		})
}

// prepareSources drops a data source that clients have always been able to name without effect, and one in another
// namespace, which v1.36 has switched off.
func prepareSources(spec, old *corev1.PersistentVolumeClaimSpec) {
	if ref := spec.DataSourceRef; ref != nil && ref.Namespace != nil && *ref.Namespace != "" && (old == nil || old.DataSourceRef == nil) {
		spec.DataSourceRef = nil
	}
	used := old != nil && (old.DataSource != nil || old.DataSourceRef != nil)
	if !used && spec.DataSourceRef == nil && !cloneable(spec.DataSource) {
		spec.DataSource = nil
	}
	pairSources(spec)
}

// cloneable reports whether a source is of the two kinds that dataSource was made for.
func cloneable(source *corev1.TypedLocalObjectReference) bool {
	if source == nil {
		return false
	}
	group := ""
	if source.APIGroup != nil {
		group = *source.APIGroup
	}
	return source.Kind == "PersistentVolumeClaim" && group == "" ||
		source.Kind == "VolumeSnapshot" && group == "snapshot.storage.k8s.io"
}

// pairSources sets the one of dataSource and dataSourceRef that is missing: they are two forms of the same thing, of
// which clients may write either. Only the second can name a namespace.
func pairSources(spec *corev1.PersistentVolumeClaimSpec) {
	source, ref := spec.DataSource, spec.DataSourceRef
	switch {
	case source != nil && ref == nil:
		spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: source.APIGroup, Kind: source.Kind, Name: source.Name}
	case ref != nil && source == nil && (ref.Namespace == nil || *ref.Namespace == ""):
		spec.DataSource = &corev1.TypedLocalObjectReference{APIGroup: ref.APIGroup, Kind: ref.Kind, Name: ref.Name}
	}
}

func warnClaim(_ kinds.Request, c, _ *corev1.PersistentVolumeClaim) []string {
	var warnings []string
	if _, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		warnings = append(warnings, fmt.Sprintf("%s: deprecated since v1.8; use \"storageClassName\" attribute instead",
			field.NewPath("metadata", "annotations").Key(corev1.BetaStorageClassAnnotation)))
	}
	return append(warnings, podspec.ClaimWarnings(&c.Spec, field.NewPath("spec"))...)
}

func claimColumns() []metav1.TableColumnDefinition {
	spec, status := corev1.PersistentVolumeClaimSpec{}.SwaggerDoc(), corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		table.Name(),
		table.Text("Status", status["phase"]),
		table.Text("Volume", spec["volumeName"]),
		table.Text("Capacity", status["capacity"]),
		table.Text("Access Modes", status["accessModes"]),
		table.Text("StorageClass", "StorageClass of the pvc"),
		table.Text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
		table.Age(),
		table.Wide(table.Text("VolumeMode", spec["volumeMode"])),
	}
}

func claimRow(c *corev1.PersistentVolumeClaim, now time.Time) []any {
	phase := string(c.Status.Phase)
	if c.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	capacity, modes := "", ""
	if c.Spec.VolumeName != "" {
		have := c.Status.Capacity[corev1.ResourceStorage]
		capacity, modes = have.String(), accessModes(c.Status.AccessModes)
	}
	class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]
	if !ok {
		class = table.Or(c.Spec.StorageClassName, "")
	}
	return []any{
		c.Name, phase, c.Spec.VolumeName, capacity, modes, class, table.Or(c.Spec.VolumeAttributesClassName, table.Unset),
		table.Since(c.CreationTimestamp, now), table.Or(c.Spec.VolumeMode, table.Unset),
	}
}
