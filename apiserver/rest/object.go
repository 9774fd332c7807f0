// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/internal/invariant"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/store/cache"
)

// decode makes the object of stored bytes, in the storage version, with defaults and resourceVersion. TypeMeta is set.
func (b *bound) decode(_ string, value []byte, revision int64) (kinds.Object, error) {
	var obj kinds.Object
	var err error
	if b.Custom != nil {
		obj, err = b.decodeCustom(value)
	} else {
		obj, err = b.decodeBuiltin(value)
	}
	if err != nil {
		return nil, err
	}
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	return obj, nil
}

func (b *bound) decodeBuiltin(value []byte) (kinds.Object, error) {
	obj := b.Kind.Storage.Blank()
	if !codec.IsProtobuf(value) {
		gvk, err := codec.TypeOf(value)
		if err != nil {
			return nil, err
		}
		return b.decodeAs(value, gvk)
	}
	if err := codec.DecodeStored(value, obj); err != nil {
		// Bytes of another version need not make sense as ours.
		if gvk, typeErr := codec.TypeOf(value); typeErr == nil && gvk != b.Kind.Storage.GroupVersionKind {
			return b.decodeAs(value, gvk)
		}
		return nil, err
	}
	if gvk := obj.GetObjectKind().GroupVersionKind(); gvk != b.Kind.Storage.GroupVersionKind {
		return b.decodeAs(value, gvk)
	}
	b.readable(obj)
	return obj, nil
}

// readable makes of an object of the storage version, as it is stored, what is read.
func (b *bound) readable(obj kinds.Object) {
	if b.Kind.Default != nil {
		b.Kind.Default(obj)
	}
	if b.Kind.Read != nil {
		b.Kind.Read(obj)
	}
}

// decodeAs decodes bytes that were stored at another version than ours.
func (b *bound) decodeAs(value []byte, gvk schema.GroupVersionKind) (kinds.Object, error) {
	obj := b.Kind.Storage.Blank()
	served := b.Kind.Known(gvk.GroupVersion())
	if served != nil {
		obj = served.Blank()
	}
	if err := codec.DecodeStored(value, obj); err != nil {
		return nil, err
	}
	if served == nil || served.ToStorage == nil {
		obj.GetObjectKind().SetGroupVersionKind(b.Kind.Storage.GroupVersionKind)
		b.readable(obj)
		return obj, nil
	}
	return b.toStorage(served, obj)
}

func (b *bound) decodeCustom(value []byte) (kinds.Object, error) {
	u := &unstructured.Unstructured{}
	if err := codec.DecodeStored(value, u); err != nil {
		return nil, err
	}
	var obj kinds.Object = u
	if gvk := u.GroupVersionKind(); gvk != b.Kind.Storage.GroupVersionKind {
		served := b.Kind.Version(gvk.GroupVersion())
		if served == nil {
			u.SetGroupVersionKind(b.Kind.Storage.GroupVersionKind)
		} else if served.ToStorage != nil {
			var err error
			if obj, err = served.ToStorage(u); err != nil {
				return nil, err
			}
		}
	}
	if u, ok := obj.(*unstructured.Unstructured); ok {
		b.Custom.Stored(u)
	}
	return obj, nil
}

// encode makes the bytes to store. obj is not changed.
func (b *bound) encode(obj kinds.Object) ([]byte, error) {
	version := obj.GetResourceVersion()
	obj.SetResourceVersion("")
	defer obj.SetResourceVersion(version)
	if b.Custom != nil {
		data, err := json.Marshal(obj)
		return append(data, '\n'), err
	}
	if form := b.Kind.Storage.Form; !form.Empty() {
		var err error
		if obj, err = b.Kind.Known(form).FromStorage(obj); err != nil {
			return nil, err
		}
	}
	m, ok := obj.(interface {
		Size() int
		MarshalToSizedBuffer(data []byte) (int, error)
	})
	if !ok {
		return nil, fmt.Errorf("%T: %w", obj, codec.ErrNoProtobuf)
	}
	return codec.Envelope(b.Kind.Storage.Stored(), m)
}

// attrs are the labels and selectable fields of an object.
func (r *Resource) attrs(obj kinds.Object) (labels.Set, fields.Set) {
	var own fields.Set
	if r.Kind.Fields != nil {
		own = r.Kind.Fields(obj)
	}
	set := make(fields.Set, len(own)+2)
	maps.Copy(set, own)
	set["metadata.name"] = obj.GetName()
	if r.Kind.Namespaced {
		set["metadata.namespace"] = obj.GetNamespace()
	}
	return obj.GetLabels(), set
}

// toStorage converts an object of a served version, which it may change, to the storage version with defaults.
func (b *bound) toStorage(served *kinds.Served, obj kinds.Object) (kinds.Object, error) {
	if served.Default != nil {
		served.Default(obj)
	}
	if served.ToStorage != nil {
		converted, err := served.ToStorage(obj)
		if err != nil {
			return nil, err
		}
		obj = converted
	}
	if b.Custom == nil {
		obj.GetObjectKind().SetGroupVersionKind(b.Kind.Storage.GroupVersionKind)
		if b.Kind.Default != nil {
			b.Kind.Default(obj)
		}
	}
	return obj, nil
}

// wire returns a stored object at the target's version. The result may be the shared input: it must not be changed.
func (t *Target) wire(obj kinds.Object) (kinds.Object, error) {
	if t.Served.FromStorage == nil {
		return obj, nil
	}
	out, err := t.Served.FromStorage(obj)
	if err != nil {
		return nil, err
	}
	out.GetObjectKind().SetGroupVersionKind(t.Served.GroupVersionKind)
	return out, nil
}

// Requests work on objects at the target's hub. That of a built-in is its storage type, which is what upstream's internal version is. A custom resource has
// none: it is worked on at the version of the request, as upstream, which shows where its versions do not have the same fields or defaults.

// hub is the kind of objects at the target's hub.
func (t *Target) hub() schema.GroupVersionKind {
	if t.Custom != nil {
		return t.Served.GroupVersionKind
	}
	return t.Kind.Storage.GroupVersionKind
}

// blank returns a new object at the hub, which says of what kind it is.
func (t *Target) blank() kinds.Object {
	obj := t.Kind.Storage.Blank()
	obj.GetObjectKind().SetGroupVersionKind(t.hub())
	return obj
}

// load returns a stored object at the hub. The result may be the shared input: it must not be changed.
func (t *Target) load(obj kinds.Object) (kinds.Object, error) {
	if t.Custom != nil {
		return t.wire(obj)
	}
	return obj, nil
}

// loaded returns an entry's object at the hub, shared and immutable. What a conversion webhook fails with is returned as it is, as upstream does.
func (t *Target) loaded(entry *cache.Entry) (kinds.Object, error) {
	obj, err := entry.Object()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return t.load(obj)
}

// save returns an object at the hub, which it does not change, in the storage version.
func (t *Target) save(obj kinds.Object) (kinds.Object, error) {
	if t.Custom != nil && t.Served.ToStorage != nil {
		return t.Served.ToStorage(obj)
	}
	return obj, nil
}

// take returns an object at the target's version, which it may change, at the hub with defaults.
func (t *Target) take(obj kinds.Object) (kinds.Object, error) {
	if t.Custom != nil {
		return obj, nil
	}
	return t.toStorage(t.Served, obj)
}

// show returns an object at the hub at the target's version. The result may be the shared input: it must not be changed.
func (t *Target) show(obj kinds.Object) (kinds.Object, error) {
	if t.Custom != nil {
		return obj, nil
	}
	return t.wire(obj)
}

// Object returns an entry's object at the target's version, shared and immutable.
func (t *Target) Object(entry *cache.Entry) (kinds.Object, error) {
	obj, err := entry.Object()
	if err != nil {
		return nil, err
	}
	return t.wire(obj)
}

// Peek is Object for who makes something of it at once, or keeps it: the cache does not.
func (t *Target) Peek(entry *cache.Entry) (kinds.Object, error) {
	obj, err := entry.Peek()
	if err != nil {
		return nil, err
	}
	return t.wire(obj)
}

// Slim is Peek for who does not read what makes the kind's objects large: it may be missing.
func (t *Target) Slim(entry *cache.Entry) (kinds.Object, error) {
	bulk := t.Kind.Storage.Bulk
	if len(bulk) == 0 || t.Served.FromStorage != nil {
		return t.Peek(entry)
	}
	value := entry.Value()
	if gvk, err := codec.TypeOf(value); err != nil || gvk != t.Kind.Storage.Stored() {
		return t.Peek(entry) // The numbers may be others.
	}
	slim, ok := codec.StoredWithout(value, bulk...)
	if !ok {
		return t.Peek(entry)
	}
	return t.decode(entry.Key, slim, entry.Revision)
}

// Encoded returns an entry's object at the target's version in a format, shared and immutable. It is made once per revision.
func (t *Target) Encoded(entry *cache.Entry, format codec.Format) ([]byte, error) {
	return entry.Encoded(t.encoding(format), func() ([]byte, error) {
		if format == codec.JSON {
			return codec.Fit(func(to []byte) ([]byte, error) {
				if out, ok := t.transcribe(to, entry); ok {
					return out, nil
				}
				return t.appendObject(to, entry)
			})
		}
		obj, err := t.Peek(entry)
		if err != nil {
			return nil, err
		}
		return codec.Marshal(obj, format)
	})
}

// encoding names a format at the target's version.
func (t *Target) encoding(format codec.Format) string {
	if format != codec.JSON {
		return encodingOf(format, t.Served)
	}
	if known := t.json.Load(); known != nil {
		return *known
	}
	name := encodingOf(format, t.Served)
	t.json.Store(&name)
	return name
}

func encodingOf(format codec.Format, served *kinds.Served) string {
	return string(format) + ";" + served.GroupVersion().String()
}

// AppendJSON appends an entry's object at the target's version in JSON, for lists of many. What is transcribed is not remembered: that costs hardly
// more than to find it again.
func (t *Target) AppendJSON(to []byte, entry *cache.Entry) ([]byte, error) {
	if out, ok := t.transcribe(to, entry); ok {
		return out, nil
	}
	return entry.Append(to, t.encoding(codec.JSON), func(to []byte) ([]byte, error) { return t.appendObject(to, entry) })
}

// transcribe appends an entry's object in JSON without making it, where what is stored is what the target's version has.
func (t *Target) transcribe(to []byte, entry *cache.Entry) ([]byte, bool) {
	if t.transcriber == nil || t.Served.FromStorage != nil {
		return nil, false
	}
	transcriber := t.transcriber()
	stored, ok := t.asStored(entry)
	if !ok || transcriber == nil {
		return nil, false
	}
	out, ok := transcriber.AppendJSON(to, stored)
	if !ok {
		return nil, false
	}
	out = append(out, '\n')
	if invariant.Enabled && t.transcribed.Add(1)%16 == 1 {
		want, err := t.appendObject(nil, entry)
		invariant.Check(err == nil && bytes.Equal(out[len(to):], want), "%s is transcribed as %s, but written as %s: %v", entry.Key, out[len(to):], want, err)
	}
	return out, true
}

// appendObject appends an entry's object in JSON.
func (t *Target) appendObject(to []byte, entry *cache.Entry) ([]byte, error) {
	obj, err := t.Peek(entry)
	if err != nil {
		return to, err
	}
	to, err = codec.AppendJSON(to, obj)
	return append(to, '\n'), err
}

// Table returns how objects of the target's version are shown as rows.
func (t *Target) Table() codec.TableSource {
	table := t.Kind.Table
	if t.Custom != nil {
		table = t.Custom.Table(t.Served.GroupVersion())
	}
	if table == nil {
		return codec.DefaultTable
	}
	source := codec.TableSource{Columns: table.Columns, Row: func(obj runtime.Object, now time.Time) []any {
		o, ok := obj.(kinds.Object)
		if !ok {
			return nil
		}
		if t.Custom == nil && t.Served.ToStorage != nil {
			converted, err := t.Served.ToStorage(o)
			if err != nil {
				return []any{o.GetName()}
			}
			o = converted
		}
		return table.Row(o, now)
	}}
	if table.Order != nil && t.Served.ToStorage == nil {
		source.Order = func(a, b runtime.Object) int { return table.Order(a.(kinds.Object), b.(kinds.Object)) }
	}
	if table.Conditions != nil {
		source.Conditions = func(obj runtime.Object) []metav1.TableRowCondition {
			o, ok := obj.(kinds.Object)
			if !ok {
				return nil
			}
			return table.Conditions(o)
		}
	}
	return source
}

// Message returns an entry's object at the target's version in protobuf, shared and immutable.
func (t *Target) Message(entry *cache.Entry) (codec.Message, error) {
	if t.Served.FromStorage == nil {
		if stored, ok := t.asStored(entry); ok {
			return stored, nil
		}
	}
	raw, err := entry.Encoded("raw;"+t.Served.GroupVersion().String(), func() ([]byte, error) {
		obj, err := t.Peek(entry)
		if err != nil {
			return nil, err
		}
		return codec.Raw(obj)
	})
	return codec.NewMessage(raw), err
}

// asStored returns what is stored, at the storage version, where readers see just that: defaults may be missing there, if another server wrote it.
func (b *bound) asStored(entry *cache.Entry) (codec.Message, bool) {
	if b.verdict(entry)&cache.Yes == 0 {
		return codec.Message{}, false
	}
	return codec.StoredMessage(entry.Value(), entry.Revision)
}

// verdict says whether readers see just what is stored. A Yes has the marks of the labels, too, so that most of what a selector does not match
// is known by the entry alone.
func (b *bound) verdict(entry *cache.Entry) cache.Verdict {
	if b.Custom != nil {
		return cache.No
	}
	return entry.Judged(func() cache.Verdict {
		m, ok := codec.StoredMessage(entry.Value(), entry.Revision)
		if ok {
			obj, err := entry.Peek()
			ok = err == nil && m.Is(obj)
		}
		return verdictOf(m, ok)
	})
}

// trust is verdict for what this server has just written of a kind with Storage.Packed, where it is known: to make a large object once more only to find out is
// not worth it.
func (b *bound) trust(entry *cache.Entry) {
	if !b.Kind.Storage.Form.Empty() {
		return
	}
	said := entry.Judged(func() cache.Verdict { return verdictOf(codec.StoredMessage(entry.Value(), entry.Revision)) })
	if invariant.Enabled && said&cache.Yes != 0 {
		m, _ := codec.StoredMessage(entry.Value(), entry.Revision)
		obj, err := entry.Peek()
		invariant.Check(err == nil && m.Is(obj), "%s is not what readers see of it: %v", entry.Key, err)
	}
}

// verdictOf is the verdict on a message, if readers see just that.
func verdictOf(m codec.Message, ok bool) cache.Verdict {
	if !ok {
		return cache.No
	}
	return cache.Yes | cache.Verdict(m.Labels().Marks())
}

// ListKind is the type of lists at the target's version.
func (t *Target) ListKind() schema.GroupVersionKind {
	if t.Kind.ListKind != "" {
		return t.Served.GroupVersion().WithKind(t.Kind.ListKind)
	}
	if t.Served.NewList != nil {
		if gvk := t.Served.NewList().GetObjectKind().GroupVersionKind(); gvk.Kind != "" {
			return gvk
		}
	}
	return t.Served.GroupVersion().WithKind(t.Served.Kind + "List")
}
