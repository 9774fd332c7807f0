// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"fmt"
	"strings"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

func resourceSlice() *kinds.Kind {
	doc := resourcev1.ResourceSliceSpec{}.SwaggerDoc()
	return kinds.Define(kinds.Kind{
		Resource:       "resourceslices",
		Singular:       "resourceslice",
		AnswersDeleted: true,
		Storage:        kinds.Storage{Prefix: "resourceslices"},
		OnRequest:      resourceSliceVersions(),
	}, version.WithKind("ResourceSlice"),
		func() *resourcev1.ResourceSlice { return &resourcev1.ResourceSlice{} },
		func() runtime.Object { return &resourcev1.ResourceSliceList{} },
		kinds.Strategy[*resourcev1.ResourceSlice]{
			PrepareCreate: func(req kinds.Request, s *resourcev1.ResourceSlice) {
				s.Generation = 1
				stampTaints(req.Now, s)
				dropAlpha(s, nil)
			},
			PrepareUpdate: func(req kinds.Request, new, old *resourcev1.ResourceSlice) {
				stampTaints(req.Now, new)
				dropAlpha(new, old)
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       validateResourceSlice,
			ValidateUpdate: validateResourceSliceUpdate,
			Warn: func(_ kinds.Request, new, _ *resourcev1.ResourceSlice) []string {
				if new.Spec.Driver == strings.ToLower(new.Spec.Driver) {
					return nil
				}
				return []string{fmt.Sprintf("spec.driver: driver names should be lowercase; %q contains uppercase characters", new.Spec.Driver)}
			},
			Fields: func(s *resourcev1.ResourceSlice) fields.Set {
				return fields.Set{
					resourcev1.ResourceSliceSelectorNodeName: table.Or(s.Spec.NodeName, ""),
					resourcev1.ResourceSliceSelectorDriver:   s.Spec.Driver,
				}
			},
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("Node", doc["nodeName"]),
				table.Text("Driver", doc["driver"]),
				table.Text("Pool", resourcev1.ResourcePool{}.SwaggerDoc()["name"]),
				table.Age(),
			},
			Row: func(s *resourcev1.ResourceSlice, now time.Time) []any {
				return []any{s.Name, table.Or(s.Spec.NodeName, ""), s.Spec.Driver, s.Spec.Pool.Name, table.Since(s.CreationTimestamp, now)}
			},
		})
}

// stampTaints writes when a taint appeared, where the driver left that open.
func stampTaints(now metav1.Time, s *resourcev1.ResourceSlice) {
	at := metav1.NewTime(now.Truncate(time.Second))
	for i := range s.Spec.Devices {
		for k := range s.Spec.Devices[i].Taints {
			if t := &s.Spec.Devices[i].Taints[k]; t.TimeAdded == nil {
				t.TimeAdded = at.DeepCopy()
			}
		}
	}
}

// dropAlpha clears what v1.36 has switched off, unless old uses it already: node allocatable mappings, and attributes that
// hold lists.
func dropAlpha(new, old *resourcev1.ResourceSlice) {
	mappings, lists := false, false
	if old != nil {
		for i := range old.Spec.Devices {
			mappings = mappings || len(old.Spec.Devices[i].NodeAllocatableResourceMappings) > 0
			for _, a := range old.Spec.Devices[i].Attributes {
				lists = lists || a.BoolValues != nil || a.IntValues != nil || a.StringValues != nil || a.VersionValues != nil
			}
		}
	}
	for i := range new.Spec.Devices {
		if !mappings {
			new.Spec.Devices[i].NodeAllocatableResourceMappings = nil
		}
		if lists {
			continue
		}
		for name, a := range new.Spec.Devices[i].Attributes {
			a.BoolValues, a.IntValues, a.StringValues, a.VersionValues = nil, nil, nil, nil
			new.Spec.Devices[i].Attributes[name] = a
		}
	}
}
