// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

func controllerRevision() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:     "controllerrevisions",
		Singular:     "controllerrevision",
		Namespaced:   true,
		NoGeneration: true,
		Storage:      kinds.Storage{Prefix: "controllerrevisions"},
	}, version.WithKind("ControllerRevision"),
		func() *appsv1.ControllerRevision { return &appsv1.ControllerRevision{} },
		func() runtime.Object { return &appsv1.ControllerRevisionList{} },
		kinds.Strategy[*appsv1.ControllerRevision]{
			Validate:       validateControllerRevision,
			ValidateUpdate: validateControllerRevisionUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("Controller", "Controller of the object"),
				table.Text("Revision", appsv1.ControllerRevision{}.SwaggerDoc()["revision"]),
				table.Age(),
			},
			Row: func(r *appsv1.ControllerRevision, now time.Time) []any {
				return []any{r.Name, controllerText(r), r.Revision, table.Since(r.CreationTimestamp, now)}
			},
		})
}

// controllerText names the controlling owner as kind.group/name.
func controllerText(r *appsv1.ControllerRevision) string {
	owner := metav1.GetControllerOf(r)
	if owner == nil {
		return table.None
	}
	gv, err := schema.ParseGroupVersion(owner.APIVersion)
	if err != nil {
		return table.None
	}
	return strings.ToLower(gv.WithKind(owner.Kind).GroupKind().String()) + "/" + owner.Name
}
