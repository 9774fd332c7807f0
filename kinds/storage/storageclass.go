// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	storagev1beta1 "k8s.io/api/storage/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

// DefaultClassAnnotations mark the class that claims get when they name none; the second is the older spelling.
func DefaultClassAnnotations() []string {
	return []string{"storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"}
}

func storageClass() *kinds.Kind {
	doc := storagev1.StorageClass{}.SwaggerDoc()
	return kinds.Define(kinds.Kind{
		Resource:       "storageclasses",
		Singular:       "storageclass",
		AnswersDeleted: true,
		ShortNames:     []string{"sc"},
		NoGeneration:   true,
		Storage:        kinds.Storage{Prefix: "storageclasses"},
	}, version.WithKind("StorageClass"),
		func() *storagev1.StorageClass { return &storagev1.StorageClass{} },
		func() runtime.Object { return &storagev1.StorageClassList{} },
		kinds.Strategy[*storagev1.StorageClass]{
			Default: func(c *storagev1.StorageClass) {
				fill(&c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
				fill(&c.VolumeBindingMode, storagev1.VolumeBindingImmediate)
			},
			Validate:       validateStorageClass,
			ValidateUpdate: validateStorageClassUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("Provisioner", doc["provisioner"]),
				table.Text("ReclaimPolicy", doc["reclaimPolicy"]),
				table.Text("VolumeBindingMode", doc["volumeBindingMode"]),
				table.Text("AllowVolumeExpansion", doc["allowVolumeExpansion"]),
				table.Age(),
			},
			Row: func(c *storagev1.StorageClass, now time.Time) []any {
				name := c.Name
				for _, key := range DefaultClassAnnotations() {
					if c.Annotations[key] == "true" {
						name = c.Name + " (default)"
					}
				}
				return []any{
					name, c.Provisioner,
					table.Or(c.ReclaimPolicy, string(corev1.PersistentVolumeReclaimDelete)),
					table.Or(c.VolumeBindingMode, string(storagev1.VolumeBindingImmediate)),
					ptr.Deref(c.AllowVolumeExpansion, false), table.Since(c.CreationTimestamp, now),
				}
			},
		})
}

func volumeAttributesClass() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "volumeattributesclasses",
		Singular:       "volumeattributesclass",
		AnswersDeleted: true,
		ShortNames:     []string{"vac"},
		NoGeneration:   true,
		Storage:        kinds.Storage{Prefix: "volumeattributesclasses"},
		OnRequest: []kinds.Served{
			kinds.Mirror[storagev1beta1.VolumeAttributesClass, storagev1beta1.VolumeAttributesClassList, storagev1.VolumeAttributesClass](
				storagev1beta1.SchemeGroupVersion.WithKind("VolumeAttributesClass")),
		},
	}, version.WithKind("VolumeAttributesClass"),
		func() *storagev1.VolumeAttributesClass { return &storagev1.VolumeAttributesClass{} },
		func() runtime.Object { return &storagev1.VolumeAttributesClassList{} },
		kinds.Strategy[*storagev1.VolumeAttributesClass]{
			Validate:       validateVolumeAttributesClass,
			ValidateUpdate: validateVolumeAttributesClassUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(), table.Text("DriverName", storagev1.VolumeAttributesClass{}.SwaggerDoc()["driverName"]), table.Age(),
			},
			Row: func(c *storagev1.VolumeAttributesClass, now time.Time) []any {
				return []any{c.Name, c.DriverName, table.Since(c.CreationTimestamp, now)}
			},
		})
}
