// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
)

func deployment() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:   "deployments",
		Singular:   "deployment",
		Reset:      map[string][]string{"status": {"metadata.labels", "spec"}},
		ShortNames: []string{"deploy"},
		Categories: all(),
		Namespaced: true,
		Storage:    kinds.Storage{Prefix: "deployments"},
		Subresources: []kinds.Subresource{
			kinds.Scalable(
				func(d *appsv1.Deployment) (int32, int32, string) {
					return deref(d.Spec.Replicas), d.Status.Replicas, selectorText(d.Spec.Selector)
				},
				func(d *appsv1.Deployment, replicas int32) { d.Spec.Replicas = &replicas },
			),
			kinds.Status(prepareDeploymentStatus, validateDeploymentStatus),
		},
	}, version.WithKind("Deployment"),
		func() *appsv1.Deployment { return &appsv1.Deployment{} },
		func() runtime.Object { return &appsv1.DeploymentList{} },
		kinds.Strategy[*appsv1.Deployment]{
			Default: defaultDeployment,
			PrepareCreate: func(_ kinds.Request, d *appsv1.Deployment) {
				d.Status = appsv1.DeploymentStatus{}
				d.Generation = 1
				dropTemplate(&d.Spec.Template, nil)
			},
			PrepareUpdate:  prepareDeployment,
			Validate:       validateDeployment,
			ValidateUpdate: validateDeploymentUpdate,
			Warn:           warnDeployment,
			Columns:        deploymentColumns(),
			Row:            deploymentRow,
		})
}

// prepareDeployment also raises the generation for changed annotations, since they are copied to the replica sets.
func prepareDeployment(_ kinds.Request, new, old *appsv1.Deployment) {
	new.Status = old.Status
	new.Generation = old.Generation
	dropTemplate(&new.Spec.Template, &old.Spec.Template)
	if !equal.Semantic(new.Spec, old.Spec) || !equal.Semantic(new.Annotations, old.Annotations) {
		new.Generation++
	}
}

func prepareDeploymentStatus(_ kinds.Request, new, old *appsv1.Deployment) {
	new.Spec = old.Spec
	new.Labels = old.Labels
}
