// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/internal/invariant"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/store"
)

// Entry is one object at one revision. It is immutable and shared by everybody; so is all that its methods return.
//
//	Entry ── stored                    stored bytes, the one copy, packed or not
//	  └─ derived (when first asked)
//	       ├─ object   strong memo     decoded object, while the budget lasts
//	       ├─ weak     weak pointer    the same object, for as long as anybody at all holds it
//	       ├─ attrs    memo            labels and selectable fields, while the budget lasts
//	       └─ encodings memos          other encodings, while the budget lasts
type Entry struct {
	// Key in the store.
	Key string
	// Revision of the change that made this state; for a deleted object, that of the deletion.
	Revision int64
	// CreateRevision is the revision at which the key was created.
	CreateRevision int64

	// codec of the cache that the entry belongs to.
	codec *codec
	// stored is the value; never nil. The cache may put the same value in its place, packed.
	stored atomic.Pointer[stored]
	// derived is set when a derivation is asked for; forget takes it away.
	derived atomic.Pointer[derived]
	// dead is set when the entry left tree and log: what is derived from then on is no longer remembered.
	dead atomic.Bool
	// judged is the Verdict, zero before there is one.
	judged atomic.Uint64
	// counted is how many bytes the budget knows of; it belongs to who moves entries in and out of the cache.
	counted int64
}

// codec is what a cache's entries share.
type codec struct {
	decode func(key string, value []byte, revision int64) (kinds.Object, error)
	attrs  func(kinds.Object) (labels.Set, fields.Set)
	budget *budget
	// packer is nil where values are not packed. Where they are, objects are not remembered for longer than anybody holds them.
	packer *packer
}

// derived holds what was made from an entry.
type derived struct {
	// object is the strong memo of the decoded object, nil when there is none or it was evicted.
	object atomic.Pointer[memo]

	// decoding is held while the object is decoded, so that it is decoded once.
	decoding sync.Mutex
	// weak is guarded by decoding.
	weak weakObject

	// attrs is the memo of the attributes, nil when there is none or it was evicted.
	attrs atomic.Pointer[memo]

	// mu guards encodings. It is never held together with decoding or budget.mu.
	mu        sync.Mutex
	encodings []*memo
}

// attrs are an object's labels and selectable fields.
type attrs struct {
	labels labels.Set
	fields fields.Set
}

func newEntry(c *codec, r store.Record) *Entry {
	e := &Entry{Key: r.Key, Revision: r.ModRevision, CreateRevision: r.CreateRevision, codec: c}
	e.stored.Store(&stored{bytes: r.Value})
	return e
}

// Value returns the bytes as stored. Callers may share them and must not change them.
func (e *Entry) Value() []byte { return e.stored.Load().open(e.codec.packer) }

// count tells the budget of an entry that is content of the cache. What only history refers to is not counted: hardly anybody reads it.
func (e *Entry) count() {
	e.counted = int64(e.stored.Load().len())
	e.codec.budget.stored.Add(e.counted)
}

func (e *Entry) uncount() {
	e.codec.budget.stored.Add(-e.counted)
	e.counted = 0
}

// at returns the same object as of another revision: what a watcher sees when the object leaves its sight.
func (e *Entry) at(revision int64) *Entry {
	out := &Entry{Key: e.Key, Revision: revision, CreateRevision: e.CreateRevision, codec: e.codec}
	out.is(e)
	return out
}

// is gives a new entry the value of another: one copy. What was found out about the value goes on to hold.
func (e *Entry) is(other *Entry) {
	e.stored.Store(other.stored.Load())
	e.judged.Store(other.judged.Load())
}

// Name is the last part of the key.
func (e *Entry) Name() string {
	_, name := splitKey(e.Key)
	return name
}

// Object returns the decoded object, and remembers it. Callers share it and must not change it.
func (e *Entry) Object() (kinds.Object, error) {
	m, err := e.decoded()
	if err != nil {
		return nil, err
	}
	return m.object, nil
}

// Peek returns the decoded object for those who need it for a moment, to make something else of it: it is not remembered for longer than anybody
// holds it. Callers share it and must not change it.
func (e *Entry) Peek() (kinds.Object, error) {
	d := e.derivation()
	if m := d.object.Load(); m != nil {
		e.checkObject(m)
		return m.object, nil
	}
	d.decoding.Lock()
	defer d.decoding.Unlock()
	return e.decodeLocked(d)
}

// Attrs returns the object's labels and selectable fields. Callers share them and must not change them.
func (e *Entry) Attrs() (labels.Set, fields.Set, error) {
	d := e.derivation()
	if m := d.attrs.Load(); m != nil {
		m.touch()
		return m.attrs.labels, m.attrs.fields, nil
	}
	obj, err := e.Peek()
	if err != nil {
		return nil, nil, err
	}
	a := new(attrs)
	a.labels, a.fields = e.codec.attrs(obj)
	if m := (&memo{owner: d, attrs: a, cost: attrsCost(a)}); !e.dead.Load() && d.attrs.CompareAndSwap(nil, m) {
		e.remember(m)
	}
	return a.labels, a.fields, nil
}

// remember gives a memo to the budget.
func (e *Entry) remember(m *memo) {
	e.codec.budget.add(m)
	if e.dead.Load() || e.derived.Load() != m.owner { // In between it died, or was forgotten: that may have come before the memo.
		e.codec.budget.remove(m)
	}
}

// Encoded returns the entry in another encoding, made by build when nobody asked for format before or it was evicted.
// format must name everything that the bytes depend on; build gives its bytes
// away. Callers share the bytes and must not change them.
func (e *Entry) Encoded(format string, build func() ([]byte, error)) ([]byte, error) {
	if e.dead.Load() || e.stored.Load().size > 0 {
		return build()
	}
	m := e.derivation().encoding(format)
	if data := m.data.Load(); data != nil {
		m.touch()
		m.checkBytes(*data, build)
		return *data, nil
	}
	m.filling.Lock()
	defer m.filling.Unlock()
	if data := m.data.Load(); data != nil {
		return *data, nil
	}
	data, err := build()
	if err != nil {
		return nil, err
	}
	m.data.Store(&data)
	m.cost = int64(len(data)) + memoCost
	e.remember(m)
	if e.stored.Load().size > 0 { // It was packed in between, and is as above.
		e.codec.budget.remove(m)
	}
	return data, nil
}

// Append appends what Encoded returns, for lists of many: build appends it where it is not remembered, and then it is remembered only where
// there is room, so that what others read stays. The entry's own object makes way for it, unless it was read since it was decoded.
func (e *Entry) Append(to []byte, format string, build func(to []byte) ([]byte, error)) ([]byte, error) {
	if data := e.remembered(format); data != nil {
		return append(to, data...), nil
	}
	begun := len(to)
	to, err := build(to)
	if err != nil || e.dead.Load() || e.stored.Load().size > 0 {
		return to, err
	}
	if m := e.derivation().object.Load(); m != nil && !m.hot.Load() {
		e.codec.budget.remove(m)
	}
	if !e.codec.budget.room(int64(len(to)-begun) + memoCost) {
		return to, nil
	}
	_, err = e.Encoded(format, func() ([]byte, error) { return bytes.Clone(to[begun:]), nil })
	return to, err
}

// remembered returns the entry in an encoding that somebody asked for before, or nil.
func (e *Entry) remembered(format string) []byte {
	d := e.derived.Load()
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.encodings {
		if m.format != format {
			continue
		}
		if data := m.data.Load(); data != nil {
			m.touch()
			return *data
		}
	}
	return nil
}

// Verdict is what Judged remembers: an answer, and in the other bits whatever else was found out.
type Verdict uint64

// The answers.
const (
	No Verdict = 1 << iota
	Yes
)

// Judged asks judge about the entry's value once, and answers from then on what it said. All who ask entries of a cache ask the same.
func (e *Entry) Judged(judge func() Verdict) Verdict {
	if known := e.judged.Load(); known != 0 {
		return Verdict(known)
	}
	verdict := judge()
	e.judged.Store(uint64(verdict))
	return verdict
}

func (e *Entry) derivation() *derived {
	if d := e.derived.Load(); d != nil {
		return d
	}
	d := new(derived)
	e.derived.CompareAndSwap(nil, d)
	if now := e.derived.Load(); now != nil {
		return now
	}
	return d // It was forgotten at once.
}

// decoded returns the memo of the decoded object, decoding it when neither memo nor weak pointer has it.
func (e *Entry) decoded() (*memo, error) {
	d := e.derivation()
	if m := d.object.Load(); m != nil {
		m.touch()
		e.checkObject(m)
		return m, nil
	}
	d.decoding.Lock()
	defer d.decoding.Unlock()
	if m := d.object.Load(); m != nil {
		return m, nil
	}
	obj, err := e.decodeLocked(d)
	if err != nil {
		return nil, err
	}
	m := &memo{owner: d, object: obj, cost: decodedCost(e.stored.Load().len())}
	if e.dead.Load() || e.codec.packer != nil {
		return m, nil
	}
	d.object.Store(m)
	e.remember(m)
	return m, nil
}

// decodeLocked decodes the object unless somebody holds it. d.decoding is held.
func (e *Entry) decodeLocked(d *derived) (kinds.Object, error) {
	if m := d.object.Load(); m != nil {
		return m.object, nil
	}
	if obj := d.weak.get(); obj != nil {
		return obj, nil
	}
	obj, err := e.codec.decode(e.Key, e.Value(), e.Revision)
	if err != nil {
		return nil, fmt.Errorf("decode %s at revision %d: %w", e.Key, e.Revision, err)
	}
	d.weak = makeWeak(obj)
	return obj, nil
}

// release forgets what is derived: nobody will find the entry any more, only old holders have it.
func (e *Entry) release() {
	e.dead.Store(true)
	e.uncount()
	if d := e.derived.Load(); d != nil {
		e.drop(d)
	}
}

// forget forgets what is derived, and that anything was: who asks next derives anew.
func (e *Entry) forget() {
	if d := e.derived.Swap(nil); d != nil {
		e.drop(d)
	}
}

// drop takes what is derived out of the budget, and so out of d.
func (e *Entry) drop(d *derived) {
	for _, m := range []*memo{d.object.Load(), d.attrs.Load()} {
		if m != nil {
			e.codec.budget.remove(m)
		}
	}
	d.mu.Lock()
	encodings := d.encodings
	d.encodings = nil
	d.mu.Unlock()
	for _, m := range encodings {
		e.codec.budget.remove(m)
	}
}

// encoding returns the memo of a format, an empty one if there is none.
func (d *derived) encoding(format string) *memo {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.encodings {
		if m.format == format {
			return m
		}
	}
	m := &memo{owner: d, format: format}
	d.encodings = append(d.encodings, m)
	return m
}

// evicted is called by the budget, without its lock, when it took the memo out.
func (d *derived) evicted(m *memo) {
	switch {
	case m.object != nil:
		d.object.CompareAndSwap(m, nil)
		return
	case m.attrs != nil:
		d.attrs.CompareAndSwap(m, nil)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.encodings = slices.DeleteFunc(d.encodings, func(x *memo) bool { return x == m }); len(d.encodings) == 0 {
		d.encodings = nil
	}
}

// checkObject finds readers that changed the shared object. Only in builds with invariants, and there one time in 16.
func (e *Entry) checkObject(m *memo) {
	if !invariant.Enabled || m.reads.Add(1)%16 != 1 {
		return
	}
	fresh, err := e.codec.decode(e.Key, e.Value(), e.Revision)
	invariant.Check(err == nil, "%s at revision %d does not decode again: %v", e.Key, e.Revision, err)
	invariant.Check(reflect.DeepEqual(fresh, m.object), "a reader changed the shared object of %s at revision %d", e.Key, e.Revision)
}

// checkBytes does the same for shared encodings.
func (m *memo) checkBytes(data []byte, build func() ([]byte, error)) {
	if !invariant.Enabled || m.reads.Add(1)%16 != 1 {
		return
	}
	fresh, err := build()
	invariant.Check(err == nil && bytes.Equal(fresh, data), "shared %s encoding was changed, or its format is not a complete name", m.format)
}
