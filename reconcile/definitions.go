// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"kogge.dev/kogge/client"
)

// ServedVersion returns the version to reach the objects of a definition at: the preferred one while it is served, else the one
// that they are stored in, else any. Empty when none is served: the definition is not established, or serves nothing now.
func ServedVersion(crd *apiextensionsv1.CustomResourceDefinition, preferred string) string {
	established := slices.ContainsFunc(crd.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
	})
	if !established {
		return ""
	}
	version := ""
	for _, v := range crd.Spec.Versions {
		switch {
		case !v.Served:
		case v.Name == preferred:
			return v.Name
		case v.Storage || version == "":
			version = v.Name
		}
	}
	return version
}

// Definitions returns the informer of custom resource definitions, which has them without their schemas: those are most of a definition, and
// no loop reads them.
func Definitions(informers *client.Informers) *client.Informer[*apiextensionsv1.CustomResourceDefinition] {
	return client.TrimmedInformer(informers, client.Of[*apiextensionsv1.CustomResourceDefinition](informers.Client()), WithoutSchemas)
}

// WithoutSchemas returns a shallow copy of a definition, without the schemas of its versions and the record of its managers.
func WithoutSchemas(crd *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.CustomResourceDefinition {
	out := *crd
	out.ManagedFields = nil
	out.Spec.Versions = slices.Clone(crd.Spec.Versions)
	for i := range out.Spec.Versions {
		out.Spec.Versions[i].Schema = nil
	}
	return &out
}
