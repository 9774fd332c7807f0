// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package apiserverinternal describes the kind of the internal.apiserver.k8s.io API group: in which version each server stores a resource.
package apiserverinternal

import (
	"fmt"
	"strings"
	"time"

	apiserverinternalv1alpha1 "k8s.io/api/apiserverinternal/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind { return []*kinds.Kind{storageVersion()} }

// storageVersion is served on request only. Nobody writes it: in v1.36 that takes a feature gate besides.
func storageVersion() *kinds.Kind {
	gvk := apiserverinternalv1alpha1.SchemeGroupVersion.WithKind("StorageVersion")
	doc := apiserverinternalv1alpha1.StorageVersionStatus{}.SwaggerDoc()
	return kinds.Define(kinds.Kind{
		Resource:              "storageversions",
		Singular:              "storageversion",
		NoGeneration:          true,
		ConditionalUpdateOnly: true,
		ValidateName:          func(name string, _ bool) []string { return validateName(name) },
		Reset:                 map[string][]string{"status": {"metadata", "spec"}},
		Storage:               kinds.Storage{Prefix: "storageversions"},
		OnRequest: []kinds.Served{
			kinds.Plain[apiserverinternalv1alpha1.StorageVersion, apiserverinternalv1alpha1.StorageVersionList](gvk),
		},
		Subresources: []kinds.Subresource{
			kinds.Status(func(_ kinds.Request, new, old *apiserverinternalv1alpha1.StorageVersion) {
				new.Spec = old.Spec
				metav1.ResetObjectMetaForStatus(&new.ObjectMeta, &old.ObjectMeta)
			}, validateStatus),
		},
	}, gvk,
		func() *apiserverinternalv1alpha1.StorageVersion { return &apiserverinternalv1alpha1.StorageVersion{} },
		func() runtime.Object { return &apiserverinternalv1alpha1.StorageVersionList{} },
		kinds.Strategy[*apiserverinternalv1alpha1.StorageVersion]{
			PrepareCreate: func(_ kinds.Request, v *apiserverinternalv1alpha1.StorageVersion) {
				v.Status = apiserverinternalv1alpha1.StorageVersionStatus{}
			},
			PrepareUpdate: func(_ kinds.Request, new, old *apiserverinternalv1alpha1.StorageVersion) { new.Status = old.Status },
			Columns: []metav1.TableColumnDefinition{
				table.Name(), table.Text("CommonEncodingVersion", doc["commonEncodingVersion"]), table.Text("StorageVersions", doc["storageVersions"]),
				table.Age(),
			},
			Row: func(v *apiserverinternalv1alpha1.StorageVersion, now time.Time) []any {
				servers := make([]string, len(v.Status.StorageVersions))
				for i, s := range v.Status.StorageVersions {
					servers[i] = fmt.Sprintf("%s=%s", s.APIServerID, s.EncodingVersion)
				}
				return []any{v.Name, table.Or(v.Status.CommonEncodingVersion, table.Unset), table.List(servers), table.Since(v.CreationTimestamp, now)}
			},
		})
}

// validateName wants a group, a dot and a resource.
func validateName(name string) []string {
	dot := strings.LastIndex(name, ".")
	if dot < 0 {
		return []string{"name must be in the form of <group>.<resource>"}
	}
	var out []string
	for _, text := range utilvalidation.IsDNS1123Subdomain(name[:dot]) {
		out = append(out, "the group segment "+text)
	}
	for _, text := range utilvalidation.IsDNS1035Label(name[dot+1:]) {
		out = append(out, "the resource segment "+text)
	}
	return out
}
