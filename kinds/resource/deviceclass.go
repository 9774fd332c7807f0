// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/objectmeta"
	"kogge.dev/kogge/kinds/table"
)

func deviceClass() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "deviceclasses",
		Singular:       "deviceclass",
		AnswersDeleted: true,
		ValidateName:   objectmeta.NotPrefix,
		Storage:        kinds.Storage{Prefix: "deviceclasses"},
		OnRequest:      deviceClassVersions(),
	}, version.WithKind("DeviceClass"),
		func() *resourcev1.DeviceClass { return &resourcev1.DeviceClass{} },
		func() runtime.Object { return &resourcev1.DeviceClassList{} },
		kinds.Strategy[*resourcev1.DeviceClass]{
			PrepareCreate: func(_ kinds.Request, c *resourcev1.DeviceClass) { c.Generation = 1 },
			PrepareUpdate: func(_ kinds.Request, new, old *resourcev1.DeviceClass) {
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       validateDeviceClass,
			ValidateUpdate: validateDeviceClassUpdate,
			Columns:        []metav1.TableColumnDefinition{table.Name(), table.Age()},
			Row: func(c *resourcev1.DeviceClass, now time.Time) []any {
				return []any{c.Name, table.Since(c.CreationTimestamp, now)}
			},
		})
}
