// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"bytes"
	"encoding/json"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/openapi"
)

type object = map[string]any

const (
	refPrefix     = "#/components/schemas/"
	statusModel   = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
	deleteModel   = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
	patchModel    = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
	listMetaModel = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
	scaleModel    = "io.k8s.api.autoscaling.v1.Scale"
)

// documents describes all served versions for OpenAPI, by path, once somebody asks.
func (c *Controller) documents() map[string]openapi.Source {
	byPath := map[string][]Version{}
	for _, v := range c.Versions() {
		path := "apis/" + v.Group + "/" + v.Version
		byPath[path] = append(byPath[path], v)
	}
	out := make(map[string]openapi.Source, len(byPath))
	for path, versions := range byPath {
		var revisions strings.Builder
		for i := range versions {
			revisions.WriteString(versions[i].Revision)
			revisions.WriteByte(' ')
		}
		out[path] = openapi.Source{Version: revisions.String(), Make: func() openapi.Document { return c.document(versions) }}
	}
	return out
}

// document describes the versions of one path. One whose schema can't be rendered is left out and logged.
func (c *Controller) document(versions []Version) openapi.Document {
	doc := openapi.Document{Paths: map[string]any{}, Schemas: map[string]json.RawMessage{}}
	for i := range versions {
		if err := versions[i].describe(&doc); err != nil {
			c.cfg.Logger.Warn("schema is not published", "object", versions[i].Definition, "err", err)
		}
	}
	return doc
}

// render makes a version's schema for the documents.
func (s *served) render(name string) (json.RawMessage, error) {
	tree, err := s.openAPI(name)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	return bytes.ReplaceAll(raw, []byte(`"#/definitions/`), []byte(`"`+refPrefix)), nil
}

// describe adds the version's schemas and paths.
func (v *Version) describe(doc *openapi.Document) error {
	raw, err := v.Schema()
	if err != nil {
		return err
	}
	doc.Schemas[v.Definition] = raw
	list, err := json.Marshal(object{
		"description": v.Kind + "List is a list of " + v.Kind,
		"type":        "object",
		"required":    []string{"items"},
		"properties": object{
			"apiVersion": object{"type": "string", "description": "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"},
			"kind":       object{"type": "string", "description": "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"},
			"items": object{
				"description": "List of " + v.Plural + ". More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
				"type":        "array", "items": object{"$ref": refPrefix + v.Definition},
			},
			"metadata": object{
				"description": "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
				"$ref":        refPrefix + listMetaModel,
			},
		},
		"x-kubernetes-group-version-kind": []object{{"group": v.Group, "version": v.Version, "kind": v.ListKind}},
	})
	if err != nil {
		return err
	}
	doc.Schemas[v.listDefinition()] = list
	v.paths(doc.Paths)
	return nil
}

func (v *Version) listDefinition() string {
	gvk := v.GroupVersionKind
	gvk.Kind = v.ListKind
	return definitionName(gvk)
}

func (v *Version) paths(out map[string]any) {
	root := "/apis/" + v.Group + "/" + v.Version + "/"
	collection, scope := root+v.Plural, ""
	var params []object
	if v.Namespaced {
		collection, scope = root+"namespaces/{namespace}/"+v.Plural, "Namespaced"
		params = append(params, pathParameter("namespace", "object name and auth scope, such as for teams and projects"))
		out[root+v.Plural] = object{"get": v.operation("list", "list"+v.id("")+"ForAllNamespaces", v.listDefinition(), "")}
	}
	out[collection] = object{
		"parameters": params,
		"get":        v.operation("list", "list"+v.id(scope), v.listDefinition(), ""),
		"post":       v.operation("post", "create"+v.id(scope), v.Definition, v.Definition),
		"delete":     v.operation("deletecollection", "delete"+v.groupID()+"Collection"+scope+v.Kind, statusModel, deleteModel),
	}
	item := append(append([]object{}, params...), pathParameter("name", "name of the "+v.Kind))
	out[collection+"/{name}"] = v.item(item, scope, "", v.Definition, true)
	if v.Status {
		out[collection+"/{name}/status"] = v.item(item, scope, "Status", v.Definition, false)
	}
	if v.Scale {
		out[collection+"/{name}/scale"] = v.item(item, scope, "Scale", scaleModel, false)
	}
}

func (v *Version) item(params []object, scope, sub, model string, deletable bool) object {
	out := object{
		"parameters": params,
		"get":        v.operation("get", "read"+v.id(scope)+sub, model, ""),
		"put":        v.operation("put", "replace"+v.id(scope)+sub, model, model),
		"patch":      v.operation("patch", "patch"+v.id(scope)+sub, model, patchModel),
	}
	if deletable {
		out["delete"] = v.operation("delete", "delete"+v.id(scope)+sub, statusModel, deleteModel)
	}
	return out
}

// groupID is the camel-case form of group and version in operation names: StableExampleComV1.
func (v *Version) groupID() string {
	var b strings.Builder
	for part := range strings.FieldsFuncSeq(v.Group+"."+v.Version, func(r rune) bool { return r == '.' || r == '-' }) {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

func (v *Version) id(scope string) string { return v.groupID() + scope + v.Kind }

func pathParameter(name, text string) object {
	return object{"in": "path", "name": name, "description": text, "required": true, "schema": object{"type": "string", "uniqueItems": true}}
}

func queryParameter(name, text string) object {
	return object{"in": "query", "name": name, "description": text, "schema": object{"type": "string", "uniqueItems": true}}
}

// operation describes one verb. Clients read from it what kind it is about and whether dry run and field validation are understood.
func (v *Version) operation(action, id, answer, body string) object {
	gv := schema.GroupVersion{Group: v.Group, Version: v.Version}
	content := func(model string, media ...string) object {
		out := object{}
		for _, m := range media {
			out[m] = object{"schema": object{"$ref": refPrefix + model}}
		}
		return out
	}
	op := object{
		"operationId": id,
		"tags":        []string{strings.ToLower(v.Group[:1]) + v.groupID()[1:]},
		"responses": object{
			"200": object{"description": "OK", "content": content(answer, "application/json", "application/yaml")},
			"401": object{"description": "Unauthorized"},
		},
		"x-kubernetes-action":             action,
		"x-kubernetes-group-version-kind": object{"group": gv.Group, "version": gv.Version, "kind": v.Kind},
	}
	switch action {
	case "post", "put", "patch", "delete", "deletecollection":
		op["parameters"] = []object{
			queryParameter("dryRun", "When present, indicates that modifications should not be persisted."),
			queryParameter("fieldManager", "fieldManager is a name associated with the actor or entity that is making these changes."),
			queryParameter("fieldValidation", "fieldValidation instructs the server on how to handle objects in the request (POST/PUT/PATCH) containing unknown or duplicate fields."),
		}
	}
	switch {
	case action == "patch":
		op["requestBody"] = object{"required": true, "content": content(body, "application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")}
	case body != "":
		op["requestBody"] = object{"required": action != "delete" && action != "deletecollection", "content": content(body, "application/json", "application/yaml")}
	}
	return op
}
