// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"kogge.dev/kogge/internal/equal"
)

// ManagerConfig describes the objects of one kind at one version to a Manager.
type ManagerConfig struct {
	Types managedfields.TypeConverter
	// Kind as on the wire; Hub is the version that objects are handed over in.
	Kind schema.GroupVersionKind
	Hub  schema.GroupVersion
	// Subresource that the requests address.
	Subresource string
	// Custom is set for custom resources, whose fields may lie outside of the schema.
	Custom bool
	// Convert returns obj, which may be unstructured, at a version; New makes an empty object; Default fills unset fields.
	Convert func(obj runtime.Object, gv schema.GroupVersion) (runtime.Object, error)
	New     func(gvk schema.GroupVersionKind) (runtime.Object, error)
	Default func(obj runtime.Object)
	// Reset lists the fields that the server takes from elsewhere whatever a request says, so that nobody comes to own them.
	Reset []fieldpath.Path
}

// Manager keeps the record of who manages which field for the objects of one kind.
type Manager struct {
	fields *managedfields.FieldManager
	// whole is for configurations with a status that requests don't reach: it must be one, and counts as a change if it is another.
	whole *managedfields.FieldManager
	// version of the requests; hub tells whether objects are handed over in it.
	version string
	hub     bool
	// noStatus says that requests don't reach status.
	noStatus bool
	// subresource of the requests, and types of their objects.
	subresource string
	types       *converter
	// plain says that nothing is taken from elsewhere but status.
	plain bool
	plans sync.Map // *plan of new objects by reflect.Type; there is one type but for requests that go wrong
}

// NewManager makes a Manager.
func NewManager(cfg ManagerConfig) (*Manager, error) {
	var reset map[fieldpath.APIVersion]fieldpath.Filter
	if len(cfg.Reset) > 0 {
		filter := fieldpath.NewExcludeSetFilter(fieldpath.NewSet(cfg.Reset...))
		reset = map[fieldpath.APIVersion]fieldpath.Filter{
			fieldpath.APIVersion(cfg.Kind.GroupVersion().String()): filter,
			fieldpath.APIVersion(cfg.Hub.String()):                 filter,
		}
	}
	construct := managedfields.NewDefaultFieldManager
	if cfg.Custom {
		construct = managedfields.NewDefaultCRDFieldManager
	}
	a := adapter{cfg}
	m := &Manager{version: cfg.Kind.GroupVersion().String(), hub: cfg.Kind.GroupVersion() == cfg.Hub}
	m.noStatus = slices.ContainsFunc(cfg.Reset, fieldpath.MakePathOrDie("status").Equals)
	m.subresource, m.types = cfg.Subresource, &converter{TypeConverter: cfg.Types, noStatus: m.noStatus}
	m.plain = len(cfg.Reset) == 0 || len(cfg.Reset) == 1 && m.noStatus
	var err error
	m.fields, err = construct(m.types, a, a, a, cfg.Kind, cfg.Hub, cfg.Subresource, reset)
	if err != nil || !m.noStatus {
		return m, err
	}
	m.whole, err = construct(&converter{TypeConverter: cfg.Types}, a, a, a, cfg.Kind, cfg.Hub, cfg.Subresource, reset)
	return m, err
}

// Update records what a write changed. It changes obj's managed fields in place; live is only read.
func (m *Manager) Update(live, obj runtime.Object, manager string) runtime.Object {
	before, recorded := live.(metav1.Object)
	after, record := obj.(metav1.Object)
	if !recorded || !record || !m.hub || !m.atVersion(before.GetManagedFields()) || !m.atVersion(after.GetManagedFields()) {
		return m.fields.UpdateNoErrors(live, obj, manager)
	}
	if m.first(before, after, live, obj, manager) {
		return obj
	}
	was, is, ok := prune(live, obj)
	if !ok {
		return m.fields.UpdateNoErrors(live, obj, manager)
	}
	if m.again(live, obj, manager) {
		if !m.same(was, is) {
			after.GetManagedFields()[0].Time = new(metav1.NewTime(time.Now().UTC()))
		}
		return obj
	}
	found, ok := m.fields.UpdateNoErrors(was, is, manager).(metav1.Object)
	if !ok {
		return m.fields.UpdateNoErrors(live, obj, manager)
	}
	after.SetManagedFields(found.GetManagedFields())
	return obj
}

// first records the fields of an object that is new: live is one of which nothing is said. It reports whether it did.
func (m *Manager) first(before, after metav1.Object, live, obj runtime.Object, manager string) bool {
	if !m.plain || before.GetUID() != "" || len(before.GetManagedFields()) > 0 || len(after.GetManagedFields()) > 0 {
		return false
	}
	if reflect.TypeOf(live) != reflect.TypeOf(obj) || !blank(reflect.ValueOf(live).Elem()) {
		return false
	}
	fields, ok := m.record(obj)
	if !ok {
		return false
	}
	if string(fields) == "{}" {
		after.SetManagedFields(nil)
		return true
	}
	if manager == "" {
		manager = "unknown"
	}
	entry := metav1.ManagedFieldsEntry{
		Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: m.version, Time: new(metav1.NewTime(time.Now().UTC())),
		FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{}, Subresource: m.subresource,
	}
	entry.FieldsV1.SetRawBytes(fields)
	after.SetManagedFields([]metav1.ManagedFieldsEntry{entry})
	return true
}

// record returns the fields that an object has, as an entry has them, or false where the library must say them.
func (m *Manager) record(obj runtime.Object) ([]byte, bool) {
	if _, tree := obj.(*unstructured.Unstructured); tree {
		return nil, false
	}
	v := reflect.ValueOf(m.types.bare(obj))
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, false
	}
	p, known := m.plans.Load(v.Type())
	if !known {
		of, err := m.types.schemaOf(obj.GetObjectKind().GroupVersionKind())
		if err != nil {
			return nil, false
		}
		p, _ = m.plans.LoadOrStore(v.Type(), firstPlan(v.Type().Elem(), of))
	}
	return firstRecord(p.(*plan), v.Elem())
}

// again gives obj the record of live if the write can't change it: its manager is the only one, and manages every field of the one and of the
// other. It reports whether it did. The time is as it was.
func (m *Manager) again(live, obj runtime.Object, manager string) bool {
	before, after := live.(metav1.Object), obj.(metav1.Object)
	known := before.GetManagedFields()
	if !m.plain || len(known) != 1 || known[0].FieldsV1 == nil {
		return false
	}
	entry := known[0]
	own := metav1.ManagedFieldsEntry{
		Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: m.version, FieldsType: "FieldsV1", FieldsV1: entry.FieldsV1,
		Subresource: m.subresource,
	}
	if !sameEntry(entry, own) {
		return false
	}
	if sent := after.GetManagedFields(); len(sent) > 1 || len(sent) == 1 && (!sameEntry(sent[0], entry) || !sent[0].Time.Equal(entry.Time)) {
		return false
	}
	for _, o := range []runtime.Object{live, obj} {
		if fields, ok := m.record(o); !ok || !bytes.Equal(fields, entry.FieldsV1.GetRawBytes()) {
			return false
		}
	}
	after.SetManagedFields([]metav1.ManagedFieldsEntry{entry})
	return true
}

// same reports whether two objects differ in nothing that may be managed.
func (m *Manager) same(a, b runtime.Object) bool {
	a, b = m.types.bare(a), m.types.bare(b)
	for _, o := range []metav1.Object{a.(metav1.Object), b.(metav1.Object)} {
		o.SetResourceVersion("")
		o.SetGeneration(0)
		o.SetUID("")
		o.SetCreationTimestamp(metav1.Time{})
	}
	return equal.Wire(a, b)
}

// blank reports whether an object says nothing but its type.
func blank(obj reflect.Value) bool {
	for _, f := range obj.Fields() {
		if f.Type() != reflect.TypeFor[metav1.TypeMeta]() && !f.IsZero() {
			return false
		}
	}
	return true
}

// atVersion reports whether all fields are recorded at the version of the requests, so that nothing is to be converted.
func (m *Manager) atVersion(entries []metav1.ManagedFieldsEntry) bool {
	return !slices.ContainsFunc(entries, func(e metav1.ManagedFieldsEntry) bool { return e.APIVersion != m.version })
}

// Apply merges an applied configuration into live and returns the result; live is only read.
func (m *Manager) Apply(live runtime.Object, applied *unstructured.Unstructured, manager string, force bool) (runtime.Object, error) {
	fields := m.fields
	if _, has := applied.Object["status"]; has && m.noStatus {
		fields = m.whole
	}
	out, err := fields.Apply(live, applied, manager, force)
	if err == nil && m.noStatus {
		keepStatus(out, live)
	}
	return out, err
}

// adapter gives the library the three interfaces that it asks for.
type adapter struct{ cfg ManagerConfig }

func (a adapter) Convert(in, out, context any) error {
	return runtime.NewNotRegisteredErrForTarget("", nil, nil)
}

func (a adapter) ConvertToVersion(in runtime.Object, gv runtime.GroupVersioner) (runtime.Object, error) {
	target, ok := gv.(schema.GroupVersion)
	if !ok {
		kind, found := gv.KindForGroupVersionKinds([]schema.GroupVersionKind{a.cfg.Kind})
		if !found {
			return nil, runtime.NewNotRegisteredErrForTarget("", nil, gv)
		}
		target = kind.GroupVersion()
	}
	obj, err := made(in)
	if err != nil {
		return nil, err
	}
	return a.cfg.Convert(obj, target)
}

func (a adapter) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

func (a adapter) Default(obj runtime.Object) { a.cfg.Default(obj) }

func (a adapter) New(gvk schema.GroupVersionKind) (runtime.Object, error) { return a.cfg.New(gvk) }

// KeepTimes gives the entries of new their old time stamps when nothing but those differs between old and new: a write that changes
// nothing must stay without effect.
func KeepTimes(new, old interface {
	runtime.Object
	metav1.Object
},
) {
	before, after := old.GetManagedFields(), new.GetManagedFields()
	if len(before) != len(after) || len(after) == 0 {
		return
	}
	same := true
	for i := range after {
		if !sameEntry(after[i], before[i]) {
			return
		}
		same = same && after[i].Time.Equal(before[i].Time)
	}
	if same {
		return
	}
	// The comparison is of everything else: take the lists out of it.
	new.SetManagedFields(before)
	if !equal.Semantic(new, old) {
		new.SetManagedFields(after)
	}
}

func sameEntry(a, b metav1.ManagedFieldsEntry) bool {
	if a.Manager != b.Manager || a.Operation != b.Operation || a.APIVersion != b.APIVersion || a.FieldsType != b.FieldsType || a.Subresource != b.Subresource {
		return false
	}
	if a.FieldsV1 == nil || b.FieldsV1 == nil {
		return a.FieldsV1 == b.FieldsV1
	}
	return bytes.Equal(a.FieldsV1.GetRawBytes(), b.FieldsV1.GetRawBytes())
}

// ManagerName is the manager of a request that names none: the client's program.
func ManagerName(named, userAgent string) string {
	if named != "" {
		return named
	}
	program, _, _ := strings.Cut(userAgent, "/")
	var out strings.Builder
	for _, r := range program {
		if !unicode.IsPrint(r) {
			continue
		}
		if out.Len()+utf8.RuneLen(r) > metavalidation.FieldManagerMaxLength {
			break
		}
		out.WriteRune(r)
	}
	return out.String()
}
