// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build dump

// Command dump prints the generated schemas as JSON; the command in the folder above runs it.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	builderutil "k8s.io/kube-openapi/pkg/builder3/util"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"kogge.dev/kogge/tools/openapi/generated"
)

const gvkExtension = "x-kubernetes-group-version-kind"

// document is what apiserver/openapi reads: all schemas in OpenAPI v3 form, and the v2 form of the few that differ.
type document struct {
	Schemas map[string]spec.Schema `json:"schemas"`
	V2      map[string]spec.Schema `json:"v2"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "dump:", err)
		os.Exit(1)
	}
}

func run() error {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, apiextensionsv1.AddToScheme, apiregistrationv1.AddToScheme, metricsv1beta1.AddToScheme} {
		if err := add(s); err != nil {
			return err
		}
	}
	kinds := map[string][]schema.GroupVersionKind{}
	for gvk, t := range s.AllKnownTypes() {
		if gvk.Version != runtime.APIVersionInternal {
			kinds[modelName(t)] = append(kinds[modelName(t)], gvk)
		}
	}
	defs := generated.GetOpenAPIDefinitions(func(name string) spec.Ref {
		return spec.MustCreateRef("#/components/schemas/" + common.EscapeJsonPointer(restName(name)))
	})
	doc := document{Schemas: map[string]spec.Schema{}, V2: map[string]spec.Schema{}}
	for key, def := range defs {
		name := restName(key)
		s := def.Schema
		if v2, ok := s.Extensions[common.ExtensionV2Schema].(spec.Schema); ok {
			doc.V2[name] = withKinds(v2, kinds[name])
			delete(s.Extensions, common.ExtensionV2Schema)
		}
		doc.Schemas[name] = withKinds(*builderutil.WrapRefs(&s), kinds[name])
	}
	return json.NewEncoder(os.Stdout).Encode(doc)
}

// restName turns an import path into a model name; most keys are model names already.
func restName(key string) string {
	if !strings.Contains(key, "/") {
		return key
	}
	return util.ToRESTFriendlyName(key)
}

func modelName(t reflect.Type) string {
	if m, ok := reflect.New(t).Interface().(interface{ OpenAPIModelName() string }); ok {
		return m.OpenAPIModelName()
	}
	return restName(t.PkgPath() + "." + t.Name())
}

func withKinds(s spec.Schema, kinds []schema.GroupVersionKind) spec.Schema {
	if len(kinds) == 0 {
		return s
	}
	slices.SortFunc(kinds, func(a, b schema.GroupVersionKind) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Kind, b.Kind))
	})
	list := make([]any, 0, len(kinds))
	for _, k := range kinds {
		list = append(list, map[string]any{"group": k.Group, "version": k.Version, "kind": k.Kind})
	}
	if s.Extensions == nil {
		s.Extensions = spec.Extensions{}
	}
	s.Extensions[gvkExtension] = list
	return s
}
