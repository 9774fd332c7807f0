// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package openapi_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
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

func TestStreamsAreDescribedByTheirParameters(t *testing.T) {
	paths, _ := get(t, openapi.New(catalog.New().All()), "/openapi/v3/api/v1")["paths"].(map[string]any)
	for path, want := range map[string]string{
		"pods/{name}/log":          "get readCoreV1NamespacedPodLog container follow insecureSkipTLSVerifyBackend limitBytes name namespace pretty previous sinceSeconds stream tailLines timestamps",
		"pods/{name}/exec":         "get connectCoreV1GetNamespacedPodExec command container name namespace stderr stdin stdout tty",
		"pods/{name}/portforward":  "post connectCoreV1PostNamespacedPodPortforward name namespace ports",
		"services/{name}/proxy":    "head connectCoreV1HeadNamespacedServiceProxy name namespace path",
		"pods/{name}/proxy/{path}": "options connectCoreV1OptionsNamespacedPodProxyWithPath name namespace path path",
	} {
		item, _ := paths["/api/v1/namespaces/{namespace}/"+path].(map[string]any)
		var names []string
		parameters, _ := item["parameters"].([]any)
		for _, one := range parameters {
			names = append(names, one.(map[string]any)["name"].(string))
		}
		slices.Sort(names)
		method, _, _ := strings.Cut(want, " ")
		operation, _ := item[method].(map[string]any)
		if got := fmt.Sprint(method, " ", operation["operationId"], " ", strings.Join(names, " ")); got != want {
			t.Errorf("%s: %s\nwant %s", path, got, want)
		}
	}
}

func TestDocumentsNameTheirOwnKindsOnly(t *testing.T) {
	s := openapi.New(catalog.New().All())
	kinds := func(path string) int {
		components, _ := get(t, s, path)["components"].(map[string]any)
		model, _ := components["schemas"].(map[string]any)["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"].(map[string]any)
		list, _ := model["x-kubernetes-group-version-kind"].([]any)
		return len(list)
	}
	if core, apps := kinds("/openapi/v3/api/v1"), kinds("/openapi/v3/apis/apps/v1"); core != 1 || apps != 2 {
		t.Errorf("DeleteOptions are of %d group-versions in the core group's document and of %d in that of apps/v1, want 1 and 2", core, apps)
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
	made := 0
	source := openapi.Source{Version: "1", Make: func() openapi.Document {
		made++
		return openapi.Document{Schemas: map[string]json.RawMessage{"com.example.v1.Thing": raw}}
	}}
	s.Set("test", map[string]openapi.Source{"apis/example.com/v1": source})
	address := func() any {
		return get(t, s, "/openapi/v3")["paths"].(map[string]any)["apis/example.com/v1"].(map[string]any)["serverRelativeURL"]
	}
	first := address()
	if made != 0 {
		t.Error("the document was made before anybody asked for it")
	}
	doc := get(t, s, "/openapi/v3/apis/example.com/v1")
	if models := doc["components"].(map[string]any)["schemas"].(map[string]any); models["com.example.v1.Thing"] == nil || models["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"] == nil {
		t.Errorf("the document has %d schemas, but not the kind and its metadata", len(models))
	}
	s.Set("test", map[string]openapi.Source{"apis/example.com/v1": source, "apis/example.com/v2": source})
	if get(t, s, "/openapi/v3/apis/example.com/v1"); made != 1 || address() != first {
		t.Errorf("the document was made %d times, at %v and then %v; it did not change", made, first, address())
	}
	source.Version = "2"
	s.Set("test", map[string]openapi.Source{"apis/example.com/v1": source})
	if get(t, s, "/openapi/v3/apis/example.com/v1"); made != 2 || address() == first {
		t.Errorf("the document was made %d times, at %v; it changed once", made, address())
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

// What tells of the server instead of objects is described too, in documents that the index lists, and in v2.
func TestRootsAreDescribed(t *testing.T) {
	s := openapi.New(catalog.New().All())
	index, _ := get(t, s, "/openapi/v3")["paths"].(map[string]any)
	all := get(t, s, "/openapi/v2")
	for document, id := range map[string]string{
		"version": "getCodeVersion", "api": "getCoreAPIVersions", "api/v1": "getCoreV1APIResources", "apis": "getAPIVersions", "apis/apps": "getAppsAPIGroup",
		"apis/rbac.authorization.k8s.io/v1": "getRbacAuthorizationV1APIResources", "openid/v1/jwks": "getServiceAccountIssuerOpenIDKeyset",
		".well-known/openid-configuration": "getServiceAccountIssuerOpenIDConfiguration",
	} {
		if index[document] == nil {
			t.Errorf("the index lacks %s", document)
		}
		for name, doc := range map[string]map[string]any{"v2": all, "v3": get(t, s, "/openapi/v3/"+document)} {
			paths, _ := doc["paths"].(map[string]any)
			item, _ := paths["/"+document+"/"].(map[string]any)
			op, _ := item["get"].(map[string]any)
			if op["operationId"] != id {
				t.Errorf("%s of /%s/ has operation %v, want %s", name, document, op["operationId"], id)
			}
		}
	}
}
