// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package openapi_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/openapi"
	"kogge.dev/kogge/kinds/catalog"
)

func get(t *testing.T, s *openapi.Service, path string) map[string]any {
	t.Helper()
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
	var out map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil {
		t.Fatalf("GET %s = %d %.100q: %v", path, rec.Code, rec.Body, err)
	}
	return out
}

func TestEveryKindHasASchema(t *testing.T) {
	s := openapi.New(catalog.New().All())
	for _, k := range catalog.New().All() {
		for _, served := range k.Served {
			if _, _, ok := s.Schema(served.GroupVersionKind); !ok {
				t.Errorf("no schema of %s", served.GroupVersionKind)
			}
		}
	}
}

func TestReferencesResolve(t *testing.T) {
	s := openapi.New(catalog.New().All())
	for path, prefix := range map[string]string{"/openapi/v3/apis/apps/v1": "#/components/schemas/", "/openapi/v3/api/v1": "#/components/schemas/", "/openapi/v2": "#/definitions/"} {
		doc := get(t, s, path)
		models, _ := doc["definitions"].(map[string]any)
		if components, ok := doc["components"].(map[string]any); ok {
			models = components["schemas"].(map[string]any)
		}
		walk(doc, func(ref string) {
			name, ok := strings.CutPrefix(ref, prefix)
			if !ok || models[name] == nil {
				t.Errorf("%s: %s leads nowhere", path, ref)
			}
		})
	}
}

func walk(v any, visit func(ref string)) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			visit(ref)
		}
		for _, child := range v {
			walk(child, visit)
		}
	case []any:
		for _, child := range v {
			walk(child, visit)
		}
	}
}

func TestDynamicDocumentsComeAndGo(t *testing.T) {
	s := openapi.New(catalog.New().All())
	gvk := []schema.GroupVersionKind{{Group: "example.com", Version: "v1", Kind: "Thing"}}
	raw, err := json.Marshal(map[string]any{
		"type": "object", "x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-group-version-kind": gvk,
		"properties": map[string]any{"metadata": map[string]any{"allOf": []any{map[string]any{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Set("test", map[string]openapi.Document{"apis/example.com/v1": {Schemas: map[string]json.RawMessage{"com.example.v1.Thing": raw}}})
	doc := get(t, s, "/openapi/v3/apis/example.com/v1")
	if models := doc["components"].(map[string]any)["schemas"].(map[string]any); models["com.example.v1.Thing"] == nil || models["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"] == nil {
		t.Errorf("the document has %d schemas, but not the kind and its metadata", len(models))
	}
	thing := get(t, s, "/openapi/v2")["definitions"].(map[string]any)["com.example.v1.Thing"].(map[string]any)
	if thing["properties"] != nil || thing["type"] != "object" {
		t.Errorf("v2 of a kind that takes any field = %v, want an object without properties", thing)
	}
	s.Set("test", nil)
	if get(t, s, "/openapi/v2")["definitions"].(map[string]any)["com.example.v1.Thing"] != nil {
		t.Error("the definition outlives its source")
	}
}
