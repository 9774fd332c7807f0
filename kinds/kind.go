// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package kinds describes the built-in API resources: one descriptor per kind holds its names, scope, verbs, storage
// version, conversions, defaulting, validation, update strategy, selectable fields, subresources and table columns.
// The API server's handlers are generic and read everything that is particular about a kind from here.
//
// The descriptors live in one folder per API group (kinds/core, kinds/apps, ...); kinds/catalog lists them all.
package kinds

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is an API object: its metadata and its type.
type Object interface {
	metav1.Object
	runtime.Object
}

// StandardVerbs are the eight verbs of an ordinary stored resource, in discovery's order.
var StandardVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// Kind describes one built-in resource. A nil function means that the kind has nothing particular to say there.
//
// Functions receive objects of the storage type (Storage.New). They may change the object that they are handed as
// "obj" or "new" where their comment says so; "old" is shared and must never be changed.
type Kind struct {
	// Served lists the group-versions under which the resource is reachable, the preferred one first. Most kinds have
	// one, equal to the storage version; those that are served on request only have none until somebody asks for them.
	Served []Served
	// OnRequest lists more group-versions, which are reachable only where the server's settings ask for them. What was stored, or has managers,
	// at one of them is read all the same.
	OnRequest []Served
	// Storage says how the object is kept. Storage.Prefix is empty for virtual resources
	// (reviews, bindings, componentstatuses), which are never stored.
	Storage Storage

	// Resource is the plural lower-case name in URLs ("pods"), Singular the singular ("pod").
	Resource, Singular string
	// ListKind is the kind of lists; empty where Served.NewList says it.
	ListKind   string
	ShortNames []string
	Categories []string
	// Namespaced is false for cluster-scoped resources.
	Namespaced bool
	// Verbs are those of discovery; nil means StandardVerbs.
	Verbs []string

	// FormAnnotations are annotations in which a version carries what others have fields for: metadata alone, of which nobody can tell what
	// version it is of, is without them.
	FormAnnotations []string

	// Default fills unset fields of obj, as upstream's defaulting of the storage version does. It must be idempotent. It
	// runs after decoding a request and after decoding stored bytes.
	Default func(obj Object)
	// PrepareCreate resets what a client may not set on create (status, mostly) and sets what the server owns.
	PrepareCreate func(req Request, obj Object)
	// PrepareUpdate does the same for an update through the main resource: it restores status from old and raises
	// metadata.generation when the spec changed.
	PrepareUpdate func(req Request, new, old Object)
	// Validate returns what is wrong with obj on create, metadata excluded (see ValidateName).
	Validate func(req Request, obj Object) field.ErrorList
	// ValidateUpdate returns what is wrong with replacing old by new: full validation and immutability.
	ValidateUpdate func(req Request, new, old Object) field.ErrorList
	// ValidateName checks metadata.name; nil means a DNS subdomain. With prefix it judges a generateName.
	ValidateName func(name string, prefix bool) []string
	// Warn returns the warnings (HTTP Warning headers) for a create (old nil) or an update.
	Warn func(req Request, new, old Object) []string
	// Fields returns the selectable fields besides metadata.name and metadata.namespace.
	Fields func(obj Object) fields.Set
	// Table renders kubectl's columns; nil means Name and Age.
	Table *Table
	// Subresources in discovery's order.
	Subresources []Subresource

	// Deprecated is a warning that every request for the kind is answered with.
	Deprecated string
	// FreeFinalizers lets finalizers go without a domain, as kinds do whose rules upstream keeps apart from those of core.
	FreeFinalizers bool
	// Reset lists, by subresource ("" is the resource itself), the fields that a write can't change, as paths with dots: nobody comes to
	// manage them. Where nothing is listed, it is status for the resource and spec for its status.
	Reset map[string][]string
	// BeginDelete takes the place of the usual marking when a deletion begins: it marks obj, which then waits for its finalizers.
	BeginDelete func(obj Object, now metav1.Time)
	// AnswersDeleted lets a deletion answer with the object that is gone instead of a status.
	AnswersDeleted bool
	// NoGeneration is set for kinds whose metadata.generation upstream does not maintain.
	NoGeneration bool
	// CreateOnUpdate lets PUT to a missing name create the object (leases, endpoints, services, ...: as upstream).
	CreateOnUpdate bool
	// ConditionalUpdateOnly refuses updates that carry no resourceVersion.
	ConditionalUpdateOnly bool
	// OrphanByDefault keeps dependents when a delete names no propagation policy (replicationcontrollers).
	OrphanByDefault bool
	// GracePeriod returns how many seconds a deletion of obj must wait given the options, and whether the kind deletes
	// gracefully at all (pods). Nil means at once.
	GracePeriod func(obj Object, opts *metav1.DeleteOptions) (seconds int64, graceful bool)
	// TTL returns after how long a stored object vanishes by itself (events); nil or zero means never.
	TTL func(obj Object) time.Duration
}

// Request is what strategies may know about the request that they serve.
type Request struct {
	// Now is the time of the request, the same for all that it stamps.
	Now metav1.Time
	// User is the requesting user's name (approval conditions and the like).
	User string
	// Groups are the requesting user's groups.
	Groups []string
	// UID and Extra are the rest of who asks.
	UID   string
	Extra map[string][]string
	// NamespaceLabels returns the labels of the object's namespace, as stored; nil where nobody judges by them.
	NamespaceLabels func() map[string]string
	// Warn adds a warning to the answer; nil drops it. For what a strategy sees before it changes the object: see Kind.Warn for the rest.
	Warn func(text string)
	// DryRun is set when nothing will be stored.
	DryRun bool
	// Subresource is the subresource addressed, or empty.
	Subresource string
	// Version is the group-version in which the client speaks; the zero value stands for the preferred served one. Only
	// kinds whose versions have rules of their own (events) look at it.
	Version schema.GroupVersion
}

// Served is one group-version under which a kind is reachable.
type Served struct {
	schema.GroupVersionKind
	// New and NewList are nil for custom resources: see Blank.
	New     func() Object
	NewList func() runtime.Object
	// FromStorage and ToStorage convert between this version and the storage version; nil where they are the same type.
	// The input is shared: they return a fresh object.
	FromStorage func(Object) (Object, error)
	ToStorage   func(Object) (Object, error)
	// Default fills unset fields of this version before conversion; nil means the kind's own Default applies after it.
	Default func(Object)
	// Deprecated is a warning that every request for this version is answered with; Removed is the release that no longer has it ("1.38").
	Deprecated, Removed string
}

// Storage says under which version and key an object is kept. Keys are upstream's: /registry/<Prefix>/[namespace/]name.
type Storage struct {
	schema.GroupVersionKind
	// New and NewList are nil for custom resources: see Blank.
	New     func() Object
	NewList func() runtime.Object
	// Prefix is the path below /registry, without slashes at the ends: "pods", "services/specs", "minions",
	// "apiextensions.k8s.io/customresourcedefinitions".
	Prefix string
	// Form is the version in whose form the object is stored, one of Kind's, where that is not the version of New.
	Form schema.GroupVersion
	// Packed is set where objects are large and hardly read: the watch cache keeps them compressed. To Default, an empty list or map is one that is not there,
	// as protobuf has it: what was stored with all defaults has none to get when it is read.
	Packed bool
	// Bulk has the numbers of the protobuf fields that lead to what makes objects large, each below 16; empty where there is no such field.
	Bulk []int
}

// Stored is the type that stored values have.
func (s *Storage) Stored() schema.GroupVersionKind {
	if !s.Form.Empty() {
		return s.Form.WithKind(s.Kind)
	}
	return s.GroupVersionKind
}

// Subresource describes one subresource of a kind.
type Subresource struct {
	// Name as in the URL: "status", "scale", "exec".
	Name string
	// Verbs of discovery.
	Verbs []string
	// GroupVersionKind on the wire where it differs from the kind's own (autoscaling/v1 Scale, policy/v1 Eviction).
	GroupVersionKind schema.GroupVersionKind
	// New makes the wire object where it differs from the kind's own.
	New func() Object
	// Default fills what a wire object of such a type leaves open; nil where nothing is.
	Default func(Object)

	// Prepare keeps of new only what this subresource may change, taking the rest from old. Set for subresources that
	// are partial updates of the same object (status, ephemeralcontainers, resize, finalize, approval).
	Prepare func(req Request, new, old Object)
	// Validate judges such a partial update.
	Validate func(req Request, new, old Object) field.ErrorList
	// Warn returns warnings of such a partial update.
	Warn func(req Request, new, old Object) []string

	// Scale maps a kind to and from autoscaling/v1 Scale; set only for "scale".
	Scale *Scale
	// Connect marks subresources that the API server serves with code of its own (exec, attach, portforward, proxy, log,
	// binding, eviction, token).
	Connect bool
}

// Scale reads and writes an object's replica counts for the scale subresource.
type Scale struct {
	// Path of the desired replicas in the object; nil means spec.replicas.
	Path []string
	// Get returns the desired and the observed replicas and the selector as text.
	Get func(obj Object) (spec, status int32, selector string)
	// Set changes the desired replicas of obj.
	Set func(obj Object, replicas int32)
}

// Table renders objects as rows for kubectl.
type Table struct {
	Columns []metav1.TableColumnDefinition
	// Row returns one cell per column; now is the time that ages are counted from.
	Row func(obj Object, now time.Time) []any
}

// GroupKind of the preferred served version.
func (k *Kind) GroupKind() schema.GroupKind { return k.Served[0].GroupKind() }

// Subresource returns the subresource of that name, or nil.
func (k *Kind) Subresource(name string) *Subresource {
	for i := range k.Subresources {
		if k.Subresources[i].Name == name {
			return &k.Subresources[i]
		}
	}
	return nil
}

// Blank returns a new object of the version. Where New is nil, that is a tree which says of what version it is.
func (s *Served) Blank() Object { return blank(s.New, s.GroupVersionKind) }

// Blank returns a new object of the storage version, as that of Served does.
func (s *Storage) Blank() Object { return blank(s.New, s.GroupVersionKind) }

func blank(fresh func() Object, gvk schema.GroupVersionKind) Object {
	if fresh != nil {
		return fresh()
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	return u
}

// Version returns the served entry of a group-version, or nil.
func (k *Kind) Version(gv schema.GroupVersion) *Served {
	for i := range k.Served {
		if k.Served[i].GroupVersion() == gv {
			return &k.Served[i]
		}
	}
	return nil
}

// Known is Version for those too that are not served because nobody asked for them.
func (k *Kind) Known(gv schema.GroupVersion) *Served {
	if served := k.Version(gv); served != nil {
		return served
	}
	for i := range k.OnRequest {
		if k.OnRequest[i].GroupVersion() == gv {
			return &k.OnRequest[i]
		}
	}
	return nil
}

// Allows reports whether discovery lists the verb.
func (k *Kind) Allows(verb string) bool {
	verbs := k.Verbs
	if verbs == nil {
		verbs = StandardVerbs
	}
	return slices.Contains(verbs, verb)
}
