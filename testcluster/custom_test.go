// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package testcluster_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

// lamps have three versions, the last of which is not served, and keep their replicas in a place of their own.
const lamps = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: lamps.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: lamps, singular: lamp, kind: Lamp, listKind: LampList}
  versions:
  - &version
    name: v1
    served: true
    storage: true
    selectableFields: [{jsonPath: .spec.bulbs}]
    subresources: {scale: {specReplicasPath: .spec.bulbs, statusReplicasPath: .status.bulbs}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              bulbs: {type: integer}
              socket: {x-kubernetes-int-or-string: true}
              template: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}
              wires: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [name], items: {type: object, required: [name], properties: {name: {type: string}}}}
  - {<<: *version, name: v1beta1, storage: false, deprecated: true}
`

// define makes a definition and waits until it is served.
func define(t *testing.T, c *testcluster.Cluster, text string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal([]byte(text), crd); err != nil {
		t.Fatal(err)
	}
	api := client.Of[*apiextensionsv1.CustomResourceDefinition](c.Admin())
	if _, err := api.Create(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	made := testcluster.Await(t, c.Admin(), "", 10*time.Second, func(all []*apiextensionsv1.CustomResourceDefinition) bool {
		return slices.ContainsFunc(all, func(d *apiextensionsv1.CustomResourceDefinition) bool {
			return d.Name == crd.Name && slices.ContainsFunc(d.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
				return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
			})
		})
	})
	return made[slices.IndexFunc(made, func(d *apiextensionsv1.CustomResourceDefinition) bool { return d.Name == crd.Name })]
}

// TestDocumentsOfACustomResource: they stand alone, and say what a generator of clients needs.
func TestDocumentsOfACustomResource(t *testing.T) {
	c := testcluster.New(t, testcluster.Config{Tokens: []authn.TokenAuthenticator{anybody{}}})
	define(t, c, lamps)
	var text string
	until(t, "the document is published", func() bool {
		w := ask(t, c, http.MethodGet, "/openapi/v3/apis/example.com/v1", "")
		text = w.Body.String()
		return w.Code == http.StatusOK
	})
	var doc struct {
		Paths      map[string]map[string]any
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	const marker = `"$ref":"#/components/schemas/`
	for rest := text; ; {
		_, after, found := strings.Cut(rest, marker)
		if !found {
			break
		}
		name, _, _ := strings.Cut(after, `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("%s is referred to and not there", name)
		}
		rest = after
	}
	item := doc.Paths["/apis/example.com/v1/namespaces/{namespace}/lamps/{name}"]
	for _, method := range []string{"get", "put", "patch", "delete"} {
		if item[method] == nil {
			t.Errorf("the document has no %s of a lamp", method)
		}
	}
	if doc.Paths["/apis/example.com/v1/namespaces/{namespace}/lamps/{name}/scale"] == nil {
		t.Error("the document has no scale")
	}
	for _, want := range []string{
		`"socket":{"anyOf":[{"type":"integer"},{"type":"string"}],"x-kubernetes-int-or-string":true}`,
		`"x-kubernetes-selectable-fields":[{"fieldPath":"spec.bulbs"}]`,
		`"required":["kind","apiVersion"]`,
		`"operationId":"deleteExampleComV1CollectionNamespacedLamp"`, `"name":"allowWatchBookmarks"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the document lacks %s", want)
		}
	}
	v2 := ask(t, c, http.MethodGet, "/openapi/v2", "").Body.String()
	if want := `"template":{"x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true}`; !strings.Contains(v2, want) {
		t.Errorf("the old document lacks %s", want)
	}
	if strings.Contains(text, "protobuf") || strings.Contains(text, "strategic-merge-patch") {
		t.Error("the document has forms that custom resources have not")
	}
}

// until asks again and again, as a client does who waits for what no watch tells.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not after 10 s: %s", what)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestApplyAcrossVersionsOfACustomResource: who manages a field at one version is met by those who apply at another.
func TestApplyAcrossVersionsOfACustomResource(t *testing.T) {
	c := testcluster.New(t, testcluster.Config{Tokens: []authn.TokenAuthenticator{anybody{}}})
	crd := define(t, c, lamps).DeepCopy()
	at := func(version, sub, manager, spec string) (int, string) {
		path := "/apis/example.com/" + version + "/namespaces/default/lamps/l"
		body := `{"apiVersion":"example.com/` + version + `","kind":"Lamp","metadata":{"name":"l"},"spec":` + spec + `}`
		if sub != "" {
			body = `{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"l"},"spec":` + spec + `}`
		}
		w := ask(t, c, http.MethodPatch, path+sub+"?fieldManager="+manager, body)
		return w.Code, w.Body.String() + strings.Join(w.Header().Values("Warning"), "")
	}
	for _, step := range []struct {
		version, sub, manager, spec string
		code                        int
		want, not                   string
	}{
		{"v1", "", "one", `{"bulbs":3,"wires":[{"name":"a"},{"name":"b"}]}`, http.StatusCreated, `"bulbs":3`, "Warning"},
		{"v1beta1", "", "two", `{"bulbs":4}`, http.StatusConflict, `conflict with \"one\": .spec.bulbs`, ""},
		{"v1beta1", "", "two", `{"bulbs":3}`, http.StatusOK, `299 - "example.com/v1beta1 Lamp is deprecated; use example.com/v1 Lamp"`, ""},
		{"v1beta1", "/scale", "three", `{"replicas":5}`, http.StatusConflict, `conflicts with \"one\":\n- .spec.replicas\nconflicts with \"two\"`, ""},
		// The same manager goes to the other version: what it names no more goes.
		{"v1beta1", "", "one", `{"bulbs":3,"wires":[{"name":"b"}]}`, http.StatusOK, `"name":"b"`, `"name":"a"`},
	} {
		code, text := at(step.version, step.sub, step.manager, step.spec)
		if code != step.code || !strings.Contains(text, step.want) || step.not != "" && strings.Contains(text, step.not) {
			t.Errorf("%s%s by %s of %s = %d %s, want %d with %s and without %s", step.version, step.sub, step.manager, step.spec, code, text, step.code, step.want, step.not)
		}
	}
	// A version that is served no more still says who manages what.
	crd.Spec.Versions[1].Served = false
	api := client.Of[*apiextensionsv1.CustomResourceDefinition](c.Admin())
	now, err := api.Get(t.Context(), "", crd.Name)
	if err != nil {
		t.Fatal(err)
	}
	crd.ResourceVersion = now.ResourceVersion
	if _, err := api.Update(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	until(t, "v1beta1 is served no more", func() bool {
		return ask(t, c, http.MethodGet, "/apis/example.com/v1beta1/namespaces/default/lamps", "").Code == http.StatusNotFound
	})
	if code, text := at("v1", "", "four", `{"bulbs":9}`); code != http.StatusConflict || !strings.Contains(text, `2 conflicts`) {
		t.Errorf("apply after a version went = %d %s, want conflicts with both managers", code, text)
	}
}

// TestStatusOfADefinition: it is put right whenever somebody changes it, and what the definition no longer says goes from it.
func TestStatusOfADefinition(t *testing.T) {
	c := testcluster.New(t, testcluster.Config{})
	crd := define(t, c, strings.Replace(lamps, "kind: Lamp,", "shortNames: [la], kind: Lamp,", 1)).DeepCopy()
	api := client.Of[*apiextensionsv1.CustomResourceDefinition](c.Admin())
	await := func(when string, right func(*apiextensionsv1.CustomResourceDefinition) bool) *apiextensionsv1.CustomResourceDefinition {
		t.Helper()
		var now *apiextensionsv1.CustomResourceDefinition
		until(t, when, func() bool {
			var err error
			now, err = api.Get(t.Context(), "", crd.Name)
			return err == nil && right(now)
		})
		return now.DeepCopy()
	}
	whole := crd.Status
	crd.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
	emptied, err := api.UpdateStatus(t.Context(), crd)
	if err != nil {
		t.Fatal(err)
	}
	if len(emptied.Spec.Versions) != 2 || emptied.Spec.Versions[0].Schema == nil {
		t.Fatalf("spec = %v after a write of the status", emptied.Spec)
	}
	crd = await("the status is whole again", func(d *apiextensionsv1.CustomResourceDefinition) bool {
		return len(d.Status.Conditions) == len(whole.Conditions) && len(d.Status.AcceptedNames.ShortNames) == 1 && slices.Equal(d.Status.StoredVersions, whole.StoredVersions)
	})
	crd.Spec.Names.ShortNames = nil
	if _, err := api.Update(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	await("the short name is gone", func(d *apiextensionsv1.CustomResourceDefinition) bool {
		return len(d.Status.AcceptedNames.ShortNames) == 0
	})
}
