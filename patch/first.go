// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"kogge.dev/kogge/internal/equal"
)

// A first record says who set the fields of a new object: all that differ from an object of which nothing is said. Everything is known of it but
// the fields, so that it is written straight from the Go value, by a plan made once for each type, instead of by comparing two trees. What
// no plan covers is left to the library: types of which the schema says too little, texts that JSON escapes, lists whose items lack keys.
// The record is byte for byte the library's.

// form is how values of a type are recorded.
type form int

const (
	unknown   form = iota // not at all
	leaf                  // whole
	structure             // by field
	mapping               // by key
	keyed                 // a list by the keys of its items
	set                   // a list by its items
)

// plan of a type. It may contain itself.
type plan struct {
	form   form
	fields []fieldPlan // of a structure, also of one that is recorded whole
	elem   *plan       // of a mapping or list
	keys   []keyPlan   // of keyed items
}

type fieldPlan struct {
	entry *value.FieldCacheEntry
	name  string
	label string
	plan  *plan
	// always says that an object of which nothing is said has the field.
	always bool
	// skip says that nobody manages the field.
	skip bool
}

// keyPlan is one key of an item.
type keyPlan struct {
	entry *value.FieldCacheEntry
	name  string
	// missing is what counts where the item lacks the key; nil means nothing.
	missing any
}

// planner makes plans of one schema.
type planner struct {
	schema *smd.Schema
	known  map[planKey]*plan
}

type planKey struct {
	t    reflect.Type
	name string // of the schema's type; inlined ones are not shared
}

// firstPlan makes the plan of an object's type. What says which object it is, nobody manages.
func firstPlan(t reflect.Type, of schemaOf) *plan {
	p := &planner{schema: of.schema, known: map[planKey]*plan{}}
	made := p.plan(t, of.typeRef)
	if made.form == structure {
		root := *made
		root.fields = skipping(root.fields, "apiVersion", "kind")
		for i, f := range root.fields {
			if f.name == "metadata" && f.plan.form == structure {
				metadata := *f.plan
				metadata.fields = skipping(metadata.fields, "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields", "resourceVersion")
				root.fields[i].plan = &metadata
			}
		}
		made = &root
	}
	return made
}

func skipping(fields []fieldPlan, names ...string) []fieldPlan {
	fields = slices.Clone(fields)
	for i := range fields {
		fields[i].skip = slices.Contains(names, fields[i].name)
	}
	return fields
}

// plan makes the plan of a Go type that the schema describes.
func (p *planner) plan(t reflect.Type, ref smd.TypeRef) *plan {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	key := planKey{t: t}
	if ref.NamedType != nil {
		key.name = *ref.NamedType
		if ref.ElementRelationship != nil { // not that of the type
			key.name += " " + string(*ref.ElementRelationship)
		}
		if found := p.known[key]; found != nil {
			return found
		}
	}
	out := &plan{}
	if key.name != "" {
		p.known[key] = out
	}
	atom, ok := p.schema.Resolve(ref)
	if !ok {
		return out
	}
	marshals := value.TypeReflectEntryOf(t).CanConvertToUnstructured()
	switch {
	case atom.Scalar != nil && (scalar(t) || leaves[t] && !trees[t] || marshals && atom.Map == nil && atom.List == nil):
		out.form = leaf
	case marshals || atom.Scalar != nil: // a value might be of several kinds
	case atom.Map != nil && atom.List == nil:
		p.planMap(out, t, atom.Map)
	case atom.List != nil && atom.Map == nil && t.Kind() == reflect.Slice:
		p.planList(out, t, atom.List)
	}
	return out
}

// trees are the leaves that may be trees on the wire.
var trees = map[reflect.Type]bool{reflect.TypeFor[runtime.RawExtension](): true, reflect.TypeFor[metav1.FieldsV1](): true}

// scalar reports whether values of a Go type are numbers, texts or truths.
func scalar(t reflect.Type) bool {
	zero := reflect.Zero(t)
	bytes := t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
	return t.Kind() == reflect.String || t.Kind() == reflect.Bool || zero.CanInt() || zero.CanUint() || zero.CanFloat() || bytes
}

func (p *planner) planMap(out *plan, t reflect.Type, m *smd.Map) {
	switch {
	case t.Kind() != reflect.Struct && (t.Kind() != reflect.Map || t.Key().Kind() != reflect.String):
	case t.Kind() == reflect.Map && m.ElementRelationship == smd.Atomic:
		out.form = leaf
	case t.Kind() == reflect.Map:
		out.form, out.elem = mapping, p.plan(t.Elem(), m.ElementType)
	default:
		if out.form = structure; m.ElementRelationship == smd.Atomic {
			out.form = leaf
		}
		for _, entry := range value.TypeReflectEntryOf(t).OrderedFields() {
			ref := m.ElementType
			if f, ok := m.FindField(entry.JsonName); ok {
				ref = f.Type
			}
			field, ok := fieldOf(t, entry)
			if !ok {
				out.form, out.fields = unknown, nil
				return
			}
			out.fields = append(out.fields, fieldPlan{
				entry: entry, name: entry.JsonName, label: "f:" + entry.JsonName, plan: p.plan(field, ref), always: !entry.CanOmit(reflect.Zero(field)),
			})
		}
	}
}

// fieldOf returns the type of a field.
func fieldOf(t reflect.Type, entry *value.FieldCacheEntry) (reflect.Type, bool) {
	v := entry.GetFrom(reflect.New(t).Elem())
	return v.Type(), v.IsValid()
}

func (p *planner) planList(out *plan, t reflect.Type, l *smd.List) {
	if l.ElementRelationship == smd.Atomic {
		out.form = leaf
		return
	}
	elem := t.Elem()
	if len(l.Keys) == 0 {
		if elem.Kind() == reflect.String && !value.TypeReflectEntryOf(elem).CanConvertToUnstructured() {
			out.form, out.elem = set, p.plan(elem, l.ElementType)
		}
		return
	}
	item, ok := p.schema.Resolve(l.ElementType)
	if !ok || item.Map == nil || elem.Kind() != reflect.Struct {
		return
	}
	entries := value.TypeReflectEntryOf(elem).Fields()
	for _, name := range slices.Sorted(slices.Values(l.Keys)) {
		entry := entries[name]
		if entry == nil {
			return
		}
		field, _ := item.FindField(name)
		out.keys = append(out.keys, keyPlan{entry: entry, name: name, missing: field.Default})
	}
	out.form, out.elem = keyed, p.plan(elem, l.ElementType)
}

// recorder writes a first record.
type recorder struct {
	out []byte
	// failed says that something is not covered.
	failed bool
}

// firstRecord returns the fields of an object, or false where the library must say them. They are "{}" if it says nothing.
func firstRecord(p *plan, obj reflect.Value) ([]byte, bool) {
	if p.form != structure {
		return nil, false
	}
	r := &recorder{out: append(make([]byte, 0, 1024), '{')}
	r.value(p, obj, true)
	return append(r.out, '}'), !r.failed
}

// entry writes what is recorded of a value under a name; nothing if nothing is. there says that an object of which nothing is said has the
// value, as zero.
func (r *recorder) entry(name string, p *plan, v reflect.Value, there bool) {
	start := len(r.out)
	if r.out[start-1] != '{' {
		r.out = append(r.out, ',')
	}
	r.out = append(append(append(r.out, '"'), name...), `":{`...)
	empty := len(r.out)
	if itself := r.value(p, v, there); !itself && len(r.out) == empty {
		r.out = r.out[:start]
		return
	}
	r.out = append(r.out, '}')
}

const itselfToo = `".":{}`

// value writes what is recorded below a value, and returns whether the value itself is.
func (r *recorder) value(p *plan, v reflect.Value, there bool) (itself bool) {
	null := false // There is something, without content.
	if pointer := v.Kind() == reflect.Pointer; pointer && v.IsNil() {
		return !there
	} else if pointer || v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		there, null = false, there
		if pointer {
			v = v.Elem()
		}
	}
	switch {
	case p.form == unknown || v.Kind() == reflect.Pointer:
		r.failed = true
		return false
	case p.form == leaf && there && p.fields != nil:
		return r.says(p, v)
	case p.form == leaf && there || p.form == leaf && null && nothing(v):
		return !equal.Wire(v.Interface(), reflect.Zero(v.Type()).Interface())
	case p.form == leaf:
		return true
	case nothing(v):
		return !null
	}
	start := len(r.out)
	if !there && !null {
		r.out = append(r.out, itselfToo...)
	}
	begun := len(r.out)
	switch p.form {
	case structure:
		r.structure(p, v, there)
	case mapping:
		r.mapping(p, v)
	default:
		r.list(p, v)
	}
	if len(r.out) > begun {
		return !there && !null
	}
	r.out = r.out[:start]
	return !there
}

// says reports whether a structure that is recorded whole says anything.
func (r *recorder) says(p *plan, v reflect.Value) bool {
	for i := range p.fields {
		field := p.fields[i].entry.GetFrom(v)
		if p.fields[i].entry.CanOmit(field) || p.fields[i].always && field.IsZero() {
			continue
		}
		r.failed = r.failed || p.fields[i].always // It may say nothing in other words.
		return true
	}
	return false
}

// nothing reports whether v is null.
func nothing(v reflect.Value) bool {
	return (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.IsNil()
}

func (r *recorder) structure(p *plan, v reflect.Value, there bool) {
	for i := range p.fields {
		f := &p.fields[i]
		if f.skip {
			continue
		}
		if field := f.entry.GetFrom(v); !f.entry.CanOmit(field) {
			r.entry(f.label, f.plan, field, there && f.always)
		}
	}
}

func (r *recorder) mapping(p *plan, v reflect.Value) {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, key := range keys {
		r.entry("f:"+r.plain(key.String()), p.elem, v.MapIndex(key), false)
	}
}

// item of a list.
type item struct {
	keys  value.FieldList
	text  string // the one key, where it is a text
	label string
	value reflect.Value
}

func (r *recorder) list(p *plan, v reflect.Value) {
	items := make([]item, v.Len())
	for i := range items {
		it := &items[i]
		if it.value = v.Index(i); p.form == set {
			it.text = r.plain(it.value.String())
			it.label = `v:\"` + it.text + `\"`
		} else {
			r.name(it, p.keys)
		}
		if r.failed {
			return
		}
	}
	slices.SortStableFunc(items, func(a, b item) int { return cmp.Or(a.keys.Compare(b.keys), strings.Compare(a.text, b.text)) })
	for i := 0; i < len(items); {
		next := i + 1
		for next < len(items) && items[next].label == items[i].label {
			next++
		}
		if next > i+1 { // Nobody can tell them apart: all are one.
			r.entry(items[i].label, &plan{form: leaf}, reflect.ValueOf(true), false)
		} else {
			r.entry(items[i].label, p.elem, items[i].value, false)
		}
		i = next
	}
}

// name finds the label of a keyed item.
func (r *recorder) name(it *item, keys []keyPlan) {
	var label strings.Builder
	label.WriteString("k:{")
	for _, key := range keys {
		v := key.value(it.value)
		if v == nil {
			continue
		}
		if label.Len() > len("k:{") {
			label.WriteByte(',')
		}
		label.WriteString(`\"` + key.name + `\":`)
		switch v := v.(type) {
		case string:
			label.WriteString(`\"` + r.plain(v) + `\"`)
			if len(keys) == 1 {
				it.text = v
				continue
			}
		case int64:
			label.WriteString(strconv.FormatInt(v, 10))
		default:
			r.failed = true
		}
		it.keys = append(it.keys, value.Field{Name: key.name, Value: value.NewValueInterface(v)})
	}
	r.failed = r.failed || label.Len() == len("k:{")
	label.WriteByte('}')
	it.label = label.String()
}

// value returns the value of a key, nil where the item has none.
func (k *keyPlan) value(item reflect.Value) any {
	v := k.entry.GetFrom(item)
	if k.entry.CanOmit(v) {
		return k.missing
	}
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.String:
		return v.String()
	case v.CanInt():
		return v.Int()
	}
	return k // which is not covered
}

// plain returns a text that JSON writes as it is.
func (r *recorder) plain(text string) string {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || strings.IndexByte(`"\<>&`, c) >= 0 {
			r.failed = true
		}
	}
	return text
}
