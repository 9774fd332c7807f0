// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
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

// Definitions returns the informer of custom resource definitions, which has their outlines: schemas are most of a definition, and no loop reads them.
func Definitions(informers *client.Informers) *client.Informer[*apiextensionsv1.CustomResourceDefinition] {
	return client.TrimmedInformer(informers, client.Of[*apiextensionsv1.CustomResourceDefinition](informers.Client()), Outline)
}

// Outline returns what loops need to know of a definition, in an object of its own: which one it is and whether it is going, its group, scope and names, its versions
// but for their schemas and columns, and which conditions it has and which names were accepted.
func Outline(crd *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.CustomResourceDefinition {
	out := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{
			Name: crd.Name, UID: crd.UID, ResourceVersion: crd.ResourceVersion, Generation: crd.Generation, DeletionTimestamp: crd.DeletionTimestamp,
		},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: crd.Spec.Group, Scope: crd.Spec.Scope, Names: crd.Spec.Names, PreserveUnknownFields: crd.Spec.PreserveUnknownFields,
			Versions: slices.Clone(crd.Spec.Versions),
		},
		Status: apiextensionsv1.CustomResourceDefinitionStatus{AcceptedNames: crd.Status.AcceptedNames},
	}
	for i := range out.Spec.Versions {
		out.Spec.Versions[i].Schema, out.Spec.Versions[i].AdditionalPrinterColumns = nil, nil
	}
	if equal.Semantic(crd.Spec.Names, crd.Status.AcceptedNames) {
		out.Status.AcceptedNames = out.Spec.Names // the same strings
	}
	for _, c := range crd.Status.Conditions {
		out.Status.Conditions = append(out.Status.Conditions, apiextensionsv1.CustomResourceDefinitionCondition{Type: c.Type, Status: c.Status})
	}
	return out
}
