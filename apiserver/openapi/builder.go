// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/kinds"
)

// builder makes the paths of a document from descriptors, and collects the schemas that they need.
type builder struct {
	names map[schema.GroupVersionKind]string
	defs  *definitions
	// group is the group-version whose paths are being added.
	group schema.GroupVersion
	doc   *Document
	ref   string
	// wanted are models referred to.
	wanted []string
	// custom is set for custom resources, which have no protobuf and no strategic merge.
	custom bool
}

// object is a JSON object.
type object = map[string]any

const (
	statusModel = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
	patchModel  = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
	deleteModel = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
)

// media types of answers and of bodies, in v3.
var (
	readMedia   = []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}
	customMedia = readMedia[:2:2]
	patchMedia  = []string{"application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"}
)

// read, streamed, bodies and patches are the media types of answers, of lists, and of what is sent.
func (b *builder) read() []string {
	if b.custom {
		return customMedia
	}
	return readMedia
}

func (b *builder) streamed() []string {
	if b.custom {
		return customMedia
	}
	return streamMedia
}

func (b *builder) bodies() []string {
	if b.custom {
		return customMedia
	}
	return []string{"*/*"}
}

func (b *builder) patches() []string {
	if b.custom {
		return patchMedia[:3]
	}
	return patchMedia
}

func (b *builder) refTo(model string) object {
	if !slices.Contains(b.wanted, model) {
		b.wanted = append(b.wanted, model)
	}
	return object{"$ref": b.ref + model}
}

func (b *builder) content(model string, media []string) object {
	out := object{}
	for _, m := range media {
		out[m] = object{"schema": b.refTo(model)}
	}
	return out
}

func parameter(in, name, kind, text string) object {
	out := object{"in": in, "name": name, "description": text, "schema": object{"type": kind, "uniqueItems": true}}
	if in == "path" {
		out["required"] = true
	}
	return out
}

// Query parameters by verb. The texts say what the parameter does in our words.
var (
	pretty       = parameter("query", "pretty", "string", "Indent the answer.")
	writeOptions = []object{
		parameter("query", "dryRun", "string", "All: run every stage but storing."),
		parameter("query", "fieldManager", "string", "Name of the actor that makes the change; required for apply."),
		parameter("query", "fieldValidation", "string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict."),
	}
	force       = parameter("query", "force", "boolean", "Take over fields that other managers own; for apply only.")
	listOptions = []object{
		parameter("query", "allowWatchBookmarks", "boolean", "Send BOOKMARK events in a watch."),
		parameter("query", "continue", "string", "Token of the page before."),
		parameter("query", "fieldSelector", "string", "Selects by fields."),
		parameter("query", "labelSelector", "string", "Selects by labels."),
		parameter("query", "limit", "integer", "The most items to return."),
		parameter("query", "resourceVersion", "string", "Version to read at or to watch from."),
		parameter("query", "resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
		parameter("query", "sendInitialEvents", "boolean", "Begin a watch with the current state."),
		parameter("query", "shardSelector", "string", "Selects a part of the objects by a CEL expression; not in use unless it is switched on."),
		parameter("query", "timeoutSeconds", "integer", "How long a list or watch may take."),
		parameter("query", "watch", "boolean", "Watch for changes instead of listing."),
	}
	deleteOptions = []object{
		parameter("query", "dryRun", "string", "All: run every stage but storing."),
		parameter("query", "gracePeriodSeconds", "integer", "Seconds that the object has to end."),
		parameter("query", "ignoreStoreReadErrorWithClusterBreakingPotential", "boolean", "Delete what can't be read; not in use unless it is switched on."),
		parameter("query", "orphanDependents", "boolean", "Deprecated form of propagationPolicy."),
		parameter("query", "propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground."),
	}
)

// selectOptions are the list options of a request that does not watch.
func selectOptions() []object {
	return slices.DeleteFunc(slices.Clone(listOptions), func(p object) bool { return p["name"] == "watch" || p["name"] == "allowWatchBookmarks" })
}

// operation describes one verb.
type operation struct {
	method, action, id, text string
	query                    []object
	body                     object
	// optional says that the body may be left out.
	optional bool
	answer   string
	media    []string
	codes    []string
}

func (b *builder) operation(op operation, gvk schema.GroupVersionKind) object {
	out := object{
		"description": op.text, "operationId": op.id, "tags": []string{tag(b.group)},
		"x-kubernetes-action": op.action,
		kindExtension:         object{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind},
	}
	if len(op.query) > 0 {
		out["parameters"] = op.query
	}
	if op.body != nil {
		out["requestBody"] = object{"content": op.body}
		if !op.optional {
			out["requestBody"] = object{"content": op.body, "required": true}
		}
	}
	responses := object{"401": object{"description": "Unauthorized"}}
	for _, code := range op.codes {
		answer := object{"description": map[string]string{"200": "OK", "201": "Created", "202": "Accepted"}[code]}
		if op.answer != "" {
			answer["content"] = b.content(op.answer, op.media)
		}
		responses[code] = answer
	}
	out["responses"] = responses
	return out
}

func tag(gv schema.GroupVersion) string { return friendly(gv.Group) + "_" + gv.Version }

// friendly is a group's name without dots: rbac.authorization.k8s.io becomes rbacAuthorization.
func friendly(group string) string {
	if group == "" {
		return "core"
	}
	first, rest, _ := strings.Cut(strings.TrimSuffix(group, ".k8s.io"), ".")
	for part := range strings.SplitSeq(rest, ".") {
		first += title(part)
	}
	return first
}

// idPart is a group-version in an operation's name: AppsV1.
func idPart(gv schema.GroupVersion) string {
	return title(friendly(gv.Group)) + title(gv.Version)
}

func title(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// addKind adds the paths of a kind at one version.
func (b *builder) addKind(k *kinds.Kind, served *kinds.Served) {
	model := b.names[served.GroupVersionKind]
	if model == "" {
		return
	}
	b.group = served.GroupVersion()
	root := "/" + gvPath(served.GroupVersion()) + "/"
	scope := ""
	var params []object
	collection := root + k.Resource
	if k.Namespaced {
		scope = "Namespaced"
		params = []object{parameter("path", "namespace", "string", "object name and auth scope, such as for teams and projects")}
		collection = root + "namespaces/{namespace}/" + k.Resource
	}
	suffix := idPart(served.GroupVersion()) + scope + served.Kind
	list := b.names[served.GroupVersion().WithKind(served.Kind+"List")]
	b.addCollection(k, served, collection, params, suffix, model, list)
	if k.Namespaced && k.Allows("list") && list != "" {
		op := b.operation(operation{
			method: "get", action: "list", id: "list" + idPart(served.GroupVersion()) + served.Kind + "ForAllNamespaces",
			text: "list or watch objects of kind " + served.Kind, answer: list, media: b.streamed(), codes: []string{"200"},
		}, served.GroupVersionKind)
		b.doc.Paths[root+k.Resource] = object{"get": op, "parameters": append(slices.Clone(listOptions), pretty)}
	}
	if !b.custom {
		b.addWatches(k, served, root, params)
	}
	params = append(params, parameter("path", "name", "string", "name of the "+served.Kind))
	b.addItem(k, served, collection+"/{name}", params, suffix, model)
	for i := range k.Subresources {
		b.addSubresource(&k.Subresources[i], served, collection+"/{name}", params, suffix, model)
	}
}

// streamMedia are the media types of lists, which may be watches.
var streamMedia = append(slices.Clone(readMedia), "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")

func (b *builder) addCollection(k *kinds.Kind, served *kinds.Served, path string, params []object, suffix, model, list string) {
	item := object{"parameters": append(slices.Clone(params), pretty)}
	gvk := served.GroupVersionKind
	if k.Allows("list") && list != "" {
		item["get"] = b.operation(operation{
			action: "list", id: "list" + suffix, text: "list or watch objects of kind " + gvk.Kind, query: listOptions, answer: list, media: b.streamed(), codes: []string{"200"},
		}, gvk)
	}
	if k.Allows("create") {
		item["post"] = b.operation(operation{
			action: "post", id: "create" + suffix, text: "create a " + gvk.Kind, query: writeOptions, body: b.content(model, b.bodies()),
			answer: model, media: b.read(), codes: []string{"200", "201", "202"},
		}, gvk)
	}
	if k.Allows("deletecollection") {
		op := operation{
			action: "deletecollection", id: "delete" + strings.Replace(suffix, idPart(gvk.GroupVersion()), idPart(gvk.GroupVersion())+"Collection", 1),
			text: "delete collection of " + gvk.Kind, query: listOptions, answer: statusModel, media: b.read(), codes: []string{"200"},
		}
		if !b.custom {
			op.query, op.body, op.optional = append(slices.Clone(deleteOptions), selectOptions()...), b.content(deleteModel, b.bodies()), true
		}
		item["delete"] = b.operation(op, gvk)
	}
	if len(item) > 1 {
		b.doc.Paths[path] = hoist(item)
	}
}

func (b *builder) addItem(k *kinds.Kind, served *kinds.Served, path string, params []object, suffix, model string) {
	item := object{"parameters": append(slices.Clone(params), pretty)}
	deleted := statusModel
	if k.AnswersDeleted {
		deleted = model
	}
	b.addVerbs(item, k.Allows, served.GroupVersionKind, suffix, verbModels{model: model, deleted: deleted})
	if len(item) > 1 {
		b.doc.Paths[path] = hoist(item)
	}
}

// verbModels are the schemas of an object, and of the answer to its deletion.
type verbModels struct{ model, deleted string }

// addVerbs adds the operations on one object.
func (b *builder) addVerbs(item object, allows func(string) bool, gvk schema.GroupVersionKind, suffix string, models verbModels) {
	model := models.model
	patched := []string{"200", "201"}
	if b.custom {
		patched = patched[:1]
	}
	if allows("get") {
		op := operation{action: "get", id: "read" + suffix, text: "read the specified " + gvk.Kind, answer: model, media: b.read(), codes: []string{"200"}}
		if b.custom {
			op.query = []object{parameter("query", "resourceVersion", "string", "Version to read at.")}
		}
		item["get"] = b.operation(op, gvk)
	}
	if allows("update") {
		item["put"] = b.operation(operation{
			action: "put", id: "replace" + suffix, text: "replace the specified " + gvk.Kind, query: writeOptions, body: b.content(model, b.bodies()),
			answer: model, media: b.read(), codes: []string{"200", "201"},
		}, gvk)
	}
	if allows("patch") {
		item["patch"] = b.operation(operation{
			action: "patch", id: "patch" + suffix, text: "partially update the specified " + gvk.Kind, query: append(slices.Clone(writeOptions), force),
			body: b.content(patchModel, b.patches()), answer: model, media: b.read(), codes: patched,
		}, gvk)
	}
	if allows("delete") {
		item["delete"] = b.operation(operation{
			action: "delete", id: "delete" + suffix, text: "delete a " + gvk.Kind, query: deleteOptions, body: b.content(deleteModel, b.bodies()), optional: true,
			answer: models.deleted, media: b.read(), codes: []string{"200", "202"},
		}, gvk)
	}
}

func (b *builder) addSubresource(sub *kinds.Subresource, served *kinds.Served, path string, params []object, suffix, model string) {
	gvk := served.GroupVersionKind
	if sub.GroupVersionKind.Kind != "" {
		gvk = sub.GroupVersionKind
	}
	item := object{"parameters": append(slices.Clone(params), pretty)}
	allows := func(verb string) bool { return slices.Contains(sub.Verbs, verb) }
	suffix += title(sub.Name)
	if own := b.names[gvk]; own != "" {
		model = own
	}
	if b.custom { // whatever its subresources are, operations are about the resource
		gvk = served.GroupVersionKind
	}
	if sub.Connect && sub.Name != "binding" && sub.Name != "eviction" && sub.Name != "token" {
		b.addStream(sub, gvk, path+"/"+sub.Name, params, suffix)
		return
	}
	if allows("create") {
		item["post"] = b.operation(operation{
			action: "post", id: "create" + suffix, text: "create " + sub.Name + " of a " + served.Kind, query: writeOptions, body: b.content(model, b.bodies()),
			answer: model, media: b.read(), codes: []string{"200", "201", "202"},
		}, gvk)
	}
	b.addVerbs(item, func(verb string) bool { return verb != "delete" && allows(verb) }, gvk, suffix, verbModels{model: model})
	b.doc.Paths[path+"/"+sub.Name] = hoist(item)
}

// hoist moves the parameters that all operations of a path have to the path.
func hoist(item object) object {
	common := map[string]object{}
	operations := 0
	for method, v := range item {
		op, ok := v.(object)
		if !ok || method == "parameters" {
			continue
		}
		list, _ := op["parameters"].([]object)
		have := map[string]object{}
		for _, p := range list {
			have[fmt.Sprint(p["in"], p["name"])] = p
		}
		if operations++; operations == 1 {
			common = have
			continue
		}
		maps.DeleteFunc(common, func(key string, _ object) bool { return have[key] == nil })
	}
	if len(common) == 0 {
		return item
	}
	shared, _ := item["parameters"].([]object)
	for method, v := range item {
		op, ok := v.(object)
		if !ok || method == "parameters" {
			continue
		}
		list, _ := op["parameters"].([]object)
		rest := slices.DeleteFunc(slices.Clone(list), func(p object) bool { return common[fmt.Sprint(p["in"], p["name"])] != nil })
		delete(op, "parameters")
		if len(rest) > 0 {
			op["parameters"] = rest
		}
	}
	for _, key := range slices.Sorted(maps.Keys(common)) {
		shared = append(shared, common[key])
	}
	item["parameters"] = shared
	return item
}

// close adds every schema that the document refers to, directly or through others.
func (b *builder) close() {
	for name := range b.doc.Schemas {
		b.wanted = append(b.wanted, references(b.doc.Schemas[name])...)
	}
	for i := 0; i < len(b.wanted); i++ {
		name := b.wanted[i]
		if _, done := b.doc.Schemas[name]; done {
			continue
		}
		raw, ok := b.defs.Schemas[name]
		if !ok {
			continue
		}
		b.doc.Schemas[name] = raw
		b.wanted = append(b.wanted, references(raw)...)
	}
}

// references finds the models that a schema refers to.
func references(raw json.RawMessage) []string {
	var out []string
	marker := []byte(`"$ref":"#/components/schemas/`)
	for {
		i := bytes.Index(raw, marker)
		if i < 0 {
			return out
		}
		raw = raw[i+len(marker):]
		end := bytes.IndexByte(raw, '"')
		if end < 0 {
			return out
		}
		out = append(out, string(raw[:end]))
		raw = raw[end:]
	}
}
