// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"strings"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

const tokenWarning = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, " +
	"set to true to prevent possible logging of tokens in volume attributes"

func csiDriver() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:              "csidrivers",
		Singular:              "csidriver",
		AnswersDeleted:        true,
		NoGeneration:          true,
		ConditionalUpdateOnly: true,
		Storage:               kinds.Storage{Prefix: "csidrivers"},
	}, version.WithKind("CSIDriver"),
		func() *storagev1.CSIDriver { return &storagev1.CSIDriver{} },
		func() runtime.Object { return &storagev1.CSIDriverList{} },
		kinds.Strategy[*storagev1.CSIDriver]{
			Default:       defaultCSIDriver,
			PrepareCreate: func(_ kinds.Request, d *storagev1.CSIDriver) { d.Spec.PreventPodSchedulingIfMissing = nil },
			PrepareUpdate: func(_ kinds.Request, new, old *storagev1.CSIDriver) {
				if old.Spec.PreventPodSchedulingIfMissing == nil {
					new.Spec.PreventPodSchedulingIfMissing = nil
				}
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       validateCSIDriver,
			ValidateUpdate: validateCSIDriverUpdate,
			Warn: func(_ kinds.Request, new, old *storagev1.CSIDriver) []string {
				unchanged := old != nil && equal.Semantic(new.Spec.TokenRequests, old.Spec.TokenRequests)
				if len(new.Spec.TokenRequests) == 0 || new.Spec.ServiceAccountTokenInSecrets != nil || unchanged {
					return nil
				}
				return []string{tokenWarning}
			},
			Columns: csiDriverColumns(),
			Row:     csiDriverRow,
		})
}

func defaultCSIDriver(d *storagev1.CSIDriver) {
	fill(&d.Spec.AttachRequired, true)
	fill(&d.Spec.PodInfoOnMount, false)
	fill(&d.Spec.StorageCapacity, false)
	fill(&d.Spec.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
	if len(d.Spec.VolumeLifecycleModes) == 0 {
		d.Spec.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
	fill(&d.Spec.RequiresRepublish, false)
	fill(&d.Spec.SELinuxMount, false)
}

func csiDriverColumns() []metav1.TableColumnDefinition {
	doc := storagev1.CSIDriverSpec{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		table.Name(),
		table.Flag("AttachRequired", doc["attachRequired"]),
		table.Flag("PodInfoOnMount", doc["podInfoOnMount"]),
		table.Flag("StorageCapacity", doc["storageCapacity"]),
		table.Text("TokenRequests", doc["tokenRequests"]),
		table.Flag("RequiresRepublish", doc["requiresRepublish"]),
		table.Text("Modes", doc["volumeLifecycleModes"]),
		table.Age(),
	}
}

func csiDriverRow(d *storagev1.CSIDriver, now time.Time) []any {
	tokens, modes := table.Unset, table.None
	if d.Spec.TokenRequests != nil {
		var audiences []string
		for _, r := range d.Spec.TokenRequests {
			audiences = append(audiences, r.Audience)
		}
		tokens = strings.Join(audiences, ",")
	}
	if len(d.Spec.VolumeLifecycleModes) > 0 {
		var all []string
		for _, m := range d.Spec.VolumeLifecycleModes {
			all = append(all, string(m))
		}
		modes = strings.Join(all, ",")
	}
	return []any{
		d.Name, ptr.Deref(d.Spec.AttachRequired, true), ptr.Deref(d.Spec.PodInfoOnMount, false), ptr.Deref(d.Spec.StorageCapacity, false),
		tokens, ptr.Deref(d.Spec.RequiresRepublish, false), modes, table.Since(d.CreationTimestamp, now),
	}
}

func csiNode() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:              "csinodes",
		Singular:              "csinode",
		AnswersDeleted:        true,
		NoGeneration:          true,
		ConditionalUpdateOnly: true,
		Storage:               kinds.Storage{Prefix: "csinodes"},
	}, version.WithKind("CSINode"),
		func() *storagev1.CSINode { return &storagev1.CSINode{} },
		func() runtime.Object { return &storagev1.CSINodeList{} },
		kinds.Strategy[*storagev1.CSINode]{
			Validate:       validateCSINode,
			ValidateUpdate: validateCSINodeUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(), table.Number("Drivers", "Drivers indicates the number of CSI drivers registered on the node"), table.Age(),
			},
			Row: func(n *storagev1.CSINode, now time.Time) []any {
				return []any{n.Name, int64(len(n.Spec.Drivers)), table.Since(n.CreationTimestamp, now)}
			},
		})
}

func csiStorageCapacity() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:              "csistoragecapacities",
		Singular:              "csistoragecapacity",
		Namespaced:            true,
		NoGeneration:          true,
		ConditionalUpdateOnly: true,
		Storage:               kinds.Storage{Prefix: "csistoragecapacities"},
	}, version.WithKind("CSIStorageCapacity"),
		func() *storagev1.CSIStorageCapacity { return &storagev1.CSIStorageCapacity{} },
		func() runtime.Object { return &storagev1.CSIStorageCapacityList{} },
		kinds.Strategy[*storagev1.CSIStorageCapacity]{
			Validate:       validateCSIStorageCapacity,
			ValidateUpdate: validateCSIStorageCapacityUpdate,
			Columns:        table.CreatedColumns(),
			Row:            table.CreatedRow[*storagev1.CSIStorageCapacity],
		})
}
