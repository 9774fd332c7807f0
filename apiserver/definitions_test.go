// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds/catalog"
)

// tabs is a definition of custom resources.
func tabs() *apiextensionsv1.CustomResourceDefinition {
	structure := &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}}
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "tabs.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.com", Scope: apiextensionsv1.ClusterScoped, Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "tabs", Kind: "Tab"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true, Schema: structure}},
		},
	}
}

// A definition is the same in JSON, in protobuf and in the server's process, also where its status was written with a spec that says nothing of what is stored.
func TestDefinitionsAreReadAlike(t *testing.T) {
	s, known := start(t), catalog.New()
	here, there := newTyped(t, s, known, false), newTyped(t, s, known, true)
	made, err := client.Of[*apiextensionsv1.CustomResourceDefinition](client.New(here.backend, known)).Create(t.Context(), tabs())
	if err != nil {
		t.Fatal(err)
	}
	const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tabs.example.com"
	body := `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"tabs.example.com","resourceVersion":"` + made.ResourceVersion + `"},
		"spec":{"group":"x","names":{"plural":"a","kind":"A"},"scope":"Cluster","versions":[]},"status":{"acceptedNames":{"plural":"tabs","kind":"Tab"}}}`
	if w := ask(t, s, http.MethodPut, path+"/status", strings.NewReader(body), "Content-Type", "application/json"); w.Code != http.StatusOK {
		t.Fatalf("write of the status = %d %s", w.Code, w.Body)
	}
	want := &apiextensionsv1.CustomResourceDefinition{}
	if err := json.Unmarshal(ask(t, s, http.MethodGet, path, nil).Body.Bytes(), want); err != nil {
		t.Fatal(err)
	}
	if got := want.Status.StoredVersions; !cmp.Equal(got, []string{"v1"}) {
		t.Errorf("storedVersions = %q, want v1", got)
	}
	for how, from := range map[string]typed{"in protobuf": there, "in the process": here} {
		got, err := client.Of[*apiextensionsv1.CustomResourceDefinition](client.New(from.backend, known)).Get(t.Context(), "", want.Name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-in JSON +got):\n%s", how, diff)
		}
	}
}

// Who says that schemas are not read gets definitions without them, listed and watched, and all the rest of them; who does not say so gets them whole.
func TestSlim(t *testing.T) {
	s := start(t)
	d := newTyped(t, s, catalog.New(), false)
	definitions := client.Of[*apiextensionsv1.CustomResourceDefinition](client.New(d.backend, d.catalog))
	made, err := definitions.Create(t.Context(), tabs())
	if err != nil || made.Spec.Versions[0].Schema == nil {
		t.Fatalf("created %v, %v, want it with its schema", made, err)
	}
	for _, slim := range []bool{false, true} {
		want := made.DeepCopy()
		if slim {
			want.Spec.Versions[0].Schema = nil
		}
		req := &client.Request{Resource: definitions.GVR(), Slim: slim, ListOptions: &metav1.ListOptions{}}
		stream, err := d.backend.Watch(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Stop()
		if diff := cmp.Diff(any(want), any((<-stream.Events()).Object)); diff != "" {
			t.Errorf("watched, slim %v (-want +got):\n%s", slim, diff)
		}
		req.Verb = client.List
		listed, err := d.backend.Do(t.Context(), req)
		if err != nil || len(listed.Items) != 1 {
			t.Fatalf("list, slim %v: %v, %v, want one", slim, listed, err)
		}
		if diff := cmp.Diff(any(want), any(listed.Items[0])); diff != "" {
			t.Errorf("listed, slim %v (-want +got):\n%s", slim, diff)
		}
	}
}
