// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package testcluster_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

const definitions = 500

// definition is one of about 20 kB, as those of public projects are on average.
func definition(i int) *apiextensionsv1.CustomResourceDefinition {
	properties := map[string]apiextensionsv1.JSONSchemaProps{}
	for p := range 100 {
		properties[fmt.Sprintf("property%d", p)] = apiextensionsv1.JSONSchemaProps{Type: "string", Description: strings.Repeat("what it is for ", 10)}
	}
	spec := apiextensionsv1.JSONSchemaProps{Type: "object", Properties: properties}
	name := fmt.Sprintf("things%d", i)
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: name + ".example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.com", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: name, Singular: fmt.Sprintf("thing%d", i), Kind: fmt.Sprintf("Thing%d", i), ListKind: fmt.Sprintf("Thing%dList", i)},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{
				OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": spec}},
			}}},
		},
	}
}

// BenchmarkDefinitions measures how long it takes until so many definitions, created one after the other, are all Established, and how much
// of the heap each holds then.
func BenchmarkDefinitions(b *testing.B) {
	for b.Loop() {
		c := testcluster.New(b).Admin()
		crds := client.Of[*apiextensionsv1.CustomResourceDefinition](c)
		before, began := heap(), time.Now()
		for i := range definitions {
			if _, err := crds.Create(b.Context(), definition(i)); err != nil {
				b.Fatal(err)
			}
		}
		testcluster.Await(b, c, "", time.Minute, func(all []*apiextensionsv1.CustomResourceDefinition) bool {
			established := func(d *apiextensionsv1.CustomResourceDefinition) bool {
				return slices.ContainsFunc(d.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
					return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
				})
			}
			return len(all) == definitions && !slices.ContainsFunc(all, func(d *apiextensionsv1.CustomResourceDefinition) bool { return !established(d) })
		})
		b.ReportMetric(time.Since(began).Seconds(), "s")
		b.ReportMetric(float64(heap()-before)/definitions/1000, "kB/definition")
	}
}

// heap is what is in use after everything else was collected.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
