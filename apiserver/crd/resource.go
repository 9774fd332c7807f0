// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kubeversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/warning"

	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/reconcile"
)

// served is one definition as it is served: its descriptor and what is behind it. It implements rest.Custom. A cluster may have hundreds that nobody uses,
// so that it is kept in few objects.
type served struct {
	// crd is the outline.
	crd   *apiextensionsv1.CustomResourceDefinition
	names apiextensionsv1.CustomResourceDefinitionNames
	// versions in the definition's order.
	versions []version
	storage  string
	convert  converter
	// read reads the definition.
	read     reader
	resource rest.Resource
	kind     kinds.Kind
	// revision changes with the definition's spec and its accepted names.
	revision revision
	// settled is the resourceVersion of the definition at which its status was complete, too; empty before.
	settled string
	// terminating is set while the instances are deleted; it may change without the resource being made anew.
	terminating atomic.Bool
	// room is for the versions, here and in kind, of most definitions.
	room struct {
		versions [2]version
		kinds    [2]kinds.Served
	}
}

var _ rest.Custom = (*served)(nil)

// Verbs of custom resources in discovery's order: as usual, while their definition terminates, and of their subresources.
var (
	standardVerbs    = []string{"delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"}
	terminatingVerbs = []string{"delete", "deletecollection", "get", "list", "watch"}
	subresourceVerbs = []string{"get", "patch", "update"}
)

// subresources of custom resources in discovery's order.
var subresources = []kinds.Subresource{
	{Name: "status", Verbs: subresourceVerbs},
	{Name: "scale", Verbs: subresourceVerbs, GroupVersionKind: schema.GroupVersionKind(scaleKind)},
}

// newServed makes the resource of a definition whose names are accepted. It compiles nothing, and keeps no schemas and columns: read brings them when they are
// needed.
func newServed(whole *apiextensionsv1.CustomResourceDefinition, convert converter, read reader) (*served, error) {
	crd := reconcile.Outline(whole)
	s := &served{crd: crd, names: crd.Status.AcceptedNames, convert: convert, read: read, revision: revisionOf(whole)}
	if n := len(crd.Spec.Versions); n <= len(s.room.versions) {
		s.versions = s.room.versions[:n]
	} else {
		s.versions = make([]version, n)
	}
	for i := range s.versions {
		v := &s.versions[i]
		v.of, v.spec = s, &crd.Spec.Versions[i]
		v.describe()
		if v.spec.Storage {
			s.storage = v.spec.Name
		}
	}
	if s.storage == "" {
		return nil, fmt.Errorf("definition %s has no storage version", crd.Name)
	}
	s.describe()
	if len(s.kind.Served) == 0 {
		return nil, nil // no version is served
	}
	s.resource = rest.Resource{Kind: &s.kind, Custom: s}
	return s, nil
}

// version returns a version by name, or nil.
func (s *served) version(name string) *version {
	for i := range s.versions {
		if s.versions[i].spec.Name == name {
			return &s.versions[i]
		}
	}
	return nil
}

// revision names what a definition makes of a resource: its spec, of which there is one in each generation, and its accepted names.
type revision [sha256.Size]byte

func revisionOf(crd *apiextensionsv1.CustomResourceDefinition) revision {
	return sha256.Sum256(fmt.Appendf(nil, "%s/%d/%q", crd.UID, crd.Generation, crd.Status.AcceptedNames))
}

func (s *served) gvk(version string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: s.crd.Spec.Group, Version: version, Kind: s.names.Kind}
}

// describe fills the descriptor.
func (s *served) describe() {
	s.kind = kinds.Kind{
		Storage:  kinds.Storage{GroupVersionKind: s.gvk(s.storage), Prefix: s.crd.Spec.Group + "/" + s.names.Plural},
		Resource: s.names.Plural, Singular: s.names.Singular, ListKind: s.names.ListKind, ShortNames: s.names.ShortNames, Categories: s.names.Categories,
		Namespaced:            s.crd.Spec.Scope == apiextensionsv1.NamespaceScoped,
		Verbs:                 standardVerbs,
		ConditionalUpdateOnly: true,
		ValidateName:          validation.NameIsDNSSubdomain,
		Fields:                s.fields(s.storage),
	}
	all := slices.Grow(s.room.kinds[:0], len(s.versions))
	for i := range s.versions {
		if v := s.versions[i].spec; v.Served {
			all = append(all, s.entry(v.Name))
		}
	}
	// The preferred version comes first: by Kubernetes' version order.
	slices.SortStableFunc(all, func(a, b kinds.Served) int { return kubeversion.CompareKubeAwareVersionStrings(b.Version, a.Version) })
	n := len(all)
	for i := range s.versions {
		if v := s.versions[i].spec; !v.Served { // who manages fields at it goes on to
			all = append(all, s.entry(v.Name))
		}
	}
	s.kind.Served, s.kind.OnRequest = all[:n:n], all[n:]
	for i := range all {
		all[i].Deprecated = s.deprecation(all[i].Version)
	}
	s.kind.Subresources = s.subresources()
}

// entry describes a version.
func (s *served) entry(name string) kinds.Served {
	out := kinds.Served{GroupVersionKind: s.gvk(name)}
	if name != s.storage {
		out.FromStorage = func(obj kinds.Object) (kinds.Object, error) { return s.convertTo(obj, name) }
		out.ToStorage = func(obj kinds.Object) (kinds.Object, error) { return s.convertTo(obj, s.storage) }
	}
	return out
}

// deprecation is what requests for a version are warned with; empty where it is not deprecated.
func (s *served) deprecation(version string) string {
	v := s.version(version).spec
	switch {
	case !v.Deprecated:
		return ""
	case v.DeprecationWarning != nil:
		return *v.DeprecationWarning
	}
	text := s.gvk(version).GroupVersion().String() + " " + s.names.Kind + " is deprecated"
	for i := range s.kind.Served {
		name := s.kind.Served[i].Version
		if !s.version(name).spec.Deprecated && kubeversion.CompareKubeAwareVersionStrings(version, name) < 0 {
			return text + "; use " + s.gvk(name).GroupVersion().String() + " " + s.names.Kind
		}
	}
	return text
}

// subresources lists what any served version has; a version without one is refused when asked for it.
func (s *served) subresources() []kinds.Subresource {
	status, scale := false, false
	for i := range s.versions {
		v := &s.versions[i]
		status = status || v.spec.Served && v.hasStatus()
		scale = scale || v.spec.Served && v.hasScale()
	}
	switch {
	case status && scale:
		return subresources
	case status:
		return subresources[:1]
	case scale:
		return subresources[1:]
	}
	return nil
}

// Complete implements rest.Custom.
func (s *served) Complete(gv schema.GroupVersion, obj *unstructured.Unstructured) ([]string, error) {
	v := s.version(gv.Version)
	if v == nil {
		return nil, fmt.Errorf("version %s is not served", gv)
	}
	return v.complete(obj)
}

// Stored implements rest.Custom.
func (s *served) Stored(obj *unstructured.Unstructured) { s.version(s.storage).stored(obj) }

// Types implements rest.Custom.
func (s *served) Types(gv schema.GroupVersion) (managedfields.TypeConverter, error) {
	return s.converter(gv.Version)
}

// Table implements rest.Custom.
func (s *served) Table(gv schema.GroupVersion) *kinds.Table { return s.version(gv.Version).columns() }

// Scale implements rest.Custom.
func (s *served) Scale(gv schema.GroupVersion) *kinds.Scale { return s.version(gv.Version).scale() }

// Fields implements rest.Custom.
func (s *served) Fields(gv schema.GroupVersion) func(kinds.Object) fields.Set {
	return s.fields(gv.Version)
}

// AllowCreate implements rest.Custom: there are no new objects while the definition is on its way out, as its instances are being deleted.
func (s *served) AllowCreate(name string) error {
	if !s.terminating.Load() {
		return nil
	}
	gr := schema.GroupResource{Group: s.crd.Spec.Group, Resource: s.names.Plural}
	return apierrors.NewForbidden(gr, name, errors.New("create not allowed while custom resource definition is terminating"))
}

func asTree(obj kinds.Object) *unstructured.Unstructured {
	u, _ := obj.(*unstructured.Unstructured)
	return u
}

// Has implements rest.Custom.
func (s *served) Has(gv schema.GroupVersion, subresource string) bool {
	v := s.version(gv.Version)
	switch subresource {
	case "status":
		return v.hasStatus()
	case "scale":
		return v.hasScale()
	}
	return false
}

// requestVersion is the version in whose terms a request is judged, and of its objects.
func (s *served) requestVersion(req kinds.Request) *version {
	if req.Version.Group == s.crd.Spec.Group {
		if v := s.version(req.Version.Version); v != nil {
			return v
		}
	}
	return s.version(s.storage)
}

// PrepareCreate implements rest.Custom.
func (s *served) PrepareCreate(req kinds.Request, obj kinds.Object) {
	u := asTree(obj)
	if s.requestVersion(req).hasStatus() {
		delete(u.Object, "status")
	}
	u.SetGeneration(1)
}

// PrepareUpdate implements rest.Custom.
func (s *served) PrepareUpdate(req kinds.Request, obj, old kinds.Object) {
	next, before := asTree(obj), asTree(old)
	without := []string{"metadata"}
	if s.requestVersion(req).hasStatus() {
		without = append(without, "status")
		if status, ok := before.Object["status"]; ok {
			next.Object["status"] = runtime.DeepCopyJSONValue(status)
		} else {
			delete(next.Object, "status")
		}
	}
	generation := before.GetGeneration()
	if !sameBut(next.Object, before.Object, without...) {
		generation++
	}
	next.SetGeneration(generation)
}

// PrepareStatus implements rest.Custom: it keeps of the new object its status, and of its metadata what only tracks the change.
func (s *served) PrepareStatus(_ kinds.Request, obj, old kinds.Object) {
	next, before := asTree(obj), asTree(old)
	status, has := next.Object["status"]
	managed, resourceVersion := next.GetManagedFields(), next.GetResourceVersion()
	next.Object = runtime.DeepCopyJSON(before.Object)
	if has {
		next.Object["status"] = status
	} else {
		delete(next.Object, "status")
	}
	next.SetManagedFields(managed)
	next.SetResourceVersion(resourceVersion)
}

// judging is the context in which a request is judged: rules that what did not change breaks are warned of there.
func judging(req kinds.Request) context.Context {
	return warning.WithWarningRecorder(context.Background(), warner(req.Warn))
}

// warner tells a client.
type warner func(text string)

// AddWarning implements warning.Recorder.
func (w warner) AddWarning(_, text string) {
	if w != nil {
		w(text)
	}
}

// Validate implements rest.Custom.
func (s *served) Validate(req kinds.Request, obj kinds.Object) field.ErrorList {
	return s.requestVersion(req).validate(judging(req), asTree(obj))
}

// ValidateUpdate implements rest.Custom.
func (s *served) ValidateUpdate(req kinds.Request, obj, old kinds.Object) field.ErrorList {
	return s.requestVersion(req).validateUpdate(judging(req), asTree(obj), asTree(old))
}

// ValidateStatus implements rest.Custom.
func (s *served) ValidateStatus(req kinds.Request, obj, old kinds.Object) field.ErrorList {
	return s.requestVersion(req).validateStatus(judging(req), asTree(obj), asTree(old))
}

// fields returns a version's selectable fields; nil when there are none.
func (s *served) fields(name string) func(kinds.Object) fields.Set {
	list := s.version(name).spec.SelectableFields
	if len(list) == 0 {
		return nil
	}
	return func(obj kinds.Object) fields.Set {
		out := fields.Set{}
		u := asTree(obj)
		for _, f := range list {
			value, _, _ := unstructured.NestedFieldNoCopy(u.Object, splitPath(f.JSONPath)...)
			text := ""
			if value != nil {
				text = fmt.Sprint(value)
			}
			out[f.JSONPath[1:]] = text
		}
		return out
	}
}

// selectable returns the paths of a version's selectable fields.
func (s *served) selectable(name string) []string {
	var out []string
	for _, f := range s.version(name).spec.SelectableFields {
		out = append(out, f.JSONPath)
	}
	return out
}

// scale maps replica counts; nil without the subresource.
func (v *version) scale() *kinds.Scale {
	if !v.hasScale() {
		return nil
	}
	return newScale(v.spec.Subresources.Scale)
}

// newScale maps replica counts by their paths.
func newScale(spec *apiextensionsv1.CustomResourceSubresourceScale) *kinds.Scale {
	count := func(u *unstructured.Unstructured, path string) int32 {
		n, _, _ := unstructured.NestedInt64(u.Object, splitPath(path)...)
		return int32(n) // validation bounds it
	}
	return &kinds.Scale{
		Path: splitPath(spec.SpecReplicasPath),
		Get: func(obj kinds.Object) (int32, int32, string) {
			u := asTree(obj)
			selector := ""
			if spec.LabelSelectorPath != nil && *spec.LabelSelectorPath != "" {
				selector, _, _ = unstructured.NestedString(u.Object, splitPath(*spec.LabelSelectorPath)...)
			}
			return count(u, spec.SpecReplicasPath), count(u, spec.StatusReplicasPath), selector
		},
		Has: func(obj kinds.Object) bool {
			_, found, err := unstructured.NestedInt64(asTree(obj).Object, splitPath(spec.SpecReplicasPath)...)
			return found && err == nil
		},
		Set: func(obj kinds.Object, replicas int32) {
			// A path through something that is no object can't be set; validation of the object says so.
			_ = unstructured.SetNestedField(asTree(obj).Object, int64(replicas), splitPath(spec.SpecReplicasPath)...)
		},
	}
}

// ageColumn is what resources without columns of their own show.
var ageColumn = apiextensionsv1.CustomResourceColumnDefinition{
	Name: "Age", Type: "date", JSONPath: ".metadata.creationTimestamp",
	Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
}
