// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"errors"
	"fmt"
	"maps"
	"time"
)

// Errors that Fake and the kernel have in common.
var (
	// ErrExists is returned for adding a key that a map holds with another value.
	ErrExists = errors.New("object exists")
	// ErrNotFound is returned for using or deleting what is not there.
	ErrNotFound = errors.New("no such object")
	// ErrBusy is returned for deleting what something still refers to.
	ErrBusy = errors.New("object is in use")
)

// Fake is an in-memory nftables with the kernel's rules of order and atomicity. It is not safe for concurrent use.
type Fake struct {
	// Tables by name. Tests may read them.
	Tables map[string]*Table
	// Now is the fake's own time, by which elements of dynamic sets expire; only tests move it.
	Now time.Duration
	// Applied counts transactions.
	Applied int
	// Fail, if set, makes the next Apply fail with it.
	Fail error
}

// NewFake makes an empty fake.
func NewFake() *Fake { return &Fake{Tables: map[string]*Table{}} }

// Apply runs a transaction; on error nothing has changed.
func (f *Fake) Apply(tx *Transaction) error {
	if err := f.Fail; err != nil {
		f.Fail = nil
		return err
	}
	work := cloneTable(f.Tables[tx.Table])
	for i, s := range tx.Steps {
		var err error
		if work, err = f.step(work, tx, s); err != nil {
			return fmt.Errorf("table %s: step %d %T: %w", tx.Table, i, s, err)
		}
	}
	if work == nil {
		delete(f.Tables, tx.Table)
	} else {
		if err := checkReferences(work); err != nil {
			return fmt.Errorf("table %s: %w", tx.Table, err)
		}
		f.Tables[tx.Table] = work
	}
	f.Applied++
	return nil
}

func (f *Fake) step(t *Table, tx *Transaction, s Step) (*Table, error) {
	if _, ok := s.(AddTable); ok {
		if t == nil {
			t = NewTable(tx.Table)
			t.Family = tx.Family
		}
		return t, validName(tx.Table)
	}
	if t == nil {
		return nil, ErrNotFound
	}
	switch s := s.(type) {
	case DeleteTable:
		return nil, nil
	case AddChain:
		return t, addChain(t, s.Chain)
	case SetRules:
		return t, setRules(t, s)
	case DeleteChain:
		return t, deleteChain(t, s.Name)
	case AddSet:
		return t, addSet(t, s.Set)
	case DeleteSet:
		return t, deleteSet(t, s.Name)
	case AddElements:
		return t, f.addElements(t, s)
	case DeleteElements:
		return t, deleteElements(t, s)
	}
	return t, fmt.Errorf("step %T is unknown", s)
}

func addChain(t *Table, c Chain) error {
	if err := validName(c.Name); err != nil {
		return err
	}
	if was := t.Chains[c.Name]; was != nil {
		if !sameHook(was, &c) {
			return fmt.Errorf("chain %s: %w", c.Name, ErrExists)
		}
		return nil
	}
	c.Rules = nil
	t.AddChain(c)
	return nil
}

func setRules(t *Table, s SetRules) error {
	c := t.Chains[s.Chain]
	if c == nil {
		return fmt.Errorf("chain %s: %w", s.Chain, ErrNotFound)
	}
	for _, r := range s.Rules {
		if len(r.Comment) > 120 {
			return fmt.Errorf("chain %s: comment of %d bytes", s.Chain, len(r.Comment))
		}
		for _, op := range r.Ops {
			if name := setOf(op); name != "" && t.Sets[name] == nil {
				return fmt.Errorf("chain %s: set %s: %w", s.Chain, name, ErrNotFound)
			}
			if d, ok := op.(Decide); ok && d.Verdict.Chain != "" && t.Chains[d.Verdict.Chain] == nil {
				return fmt.Errorf("chain %s: chain %s: %w", s.Chain, d.Verdict.Chain, ErrNotFound)
			}
		}
	}
	replaced := *c
	replaced.Rules = s.Rules
	t.Chains[s.Chain] = &replaced
	return nil
}

func deleteChain(t *Table, name string) error {
	if t.Chains[name] == nil {
		return fmt.Errorf("chain %s: %w", name, ErrNotFound)
	}
	if by := chainUser(t, name); by != "" {
		return fmt.Errorf("chain %s: %w by %s", name, ErrBusy, by)
	}
	delete(t.Chains, name)
	return nil
}

// chainUser names who refers to a chain, or nothing.
func chainUser(t *Table, name string) string {
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			for _, op := range r.Ops {
				if d, ok := op.(Decide); ok && d.Verdict.Chain == name {
					return "chain " + c.Name
				}
			}
		}
	}
	for _, s := range t.Sets {
		if !s.IsVerdictMap() {
			continue
		}
		for _, e := range s.Elements {
			if e.Verdict.Chain == name {
				return "map " + s.Name
			}
		}
	}
	return ""
}

func addSet(t *Table, s Set) error {
	if err := validName(s.Name); err != nil {
		return err
	}
	if len(s.Key) == 0 || len(s.Key) > 5 || len(s.Data) > 5 {
		return fmt.Errorf("set %s: %d key and %d data fields", s.Name, len(s.Key), len(s.Data))
	}
	if s.Dynamic && s.Size == 0 {
		return fmt.Errorf("set %s: dynamic without a size", s.Name)
	}
	if was := t.Sets[s.Name]; was != nil {
		if !was.sameShape(&s) {
			return fmt.Errorf("set %s: %w", s.Name, ErrExists)
		}
		return nil
	}
	s.Elements = map[string]Element{}
	t.AddSet(s)
	return nil
}

func deleteSet(t *Table, name string) error {
	if t.Sets[name] == nil {
		return fmt.Errorf("set %s: %w", name, ErrNotFound)
	}
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			for _, op := range r.Ops {
				if setOf(op) == name {
					return fmt.Errorf("set %s: %w by chain %s", name, ErrBusy, c.Name)
				}
			}
		}
	}
	delete(t.Sets, name)
	return nil
}

func (f *Fake) addElements(t *Table, s AddElements) error {
	set := t.Sets[s.Set.Name]
	if set == nil {
		return fmt.Errorf("set %s: %w", s.Set.Name, ErrNotFound)
	}
	for _, e := range s.Elements {
		if err := checkElement(t, set, e); err != nil {
			return fmt.Errorf("set %s: element %s: %w", set.Name, Format(set.Key, e.Key), err)
		}
		if set.Dynamic {
			e.Expires = f.Now + e.Expires
		}
		set.Put(e)
	}
	return nil
}

func checkElement(t *Table, set *Set, e Element) error {
	if len(e.Key) != Width(set.Key) || (e.End != nil && len(e.End) != len(e.Key)) {
		return fmt.Errorf("key of %d bytes, want %d", len(e.Key), Width(set.Key))
	}
	if e.End != nil && !set.Interval {
		return errors.New("range in a set without intervals")
	}
	switch {
	case set.IsVerdictMap():
		if e.Verdict.Kind == NoVerdict {
			return errors.New("no verdict")
		}
		if e.Verdict.Chain != "" && t.Chains[e.Verdict.Chain] == nil {
			return fmt.Errorf("chain %s: %w", e.Verdict.Chain, ErrNotFound)
		}
	case len(e.Data) != Width(set.Data):
		return fmt.Errorf("data of %d bytes, want %d", len(e.Data), Width(set.Data))
	}
	if was, ok := set.Elements[e.ID()]; ok && !was.Same(e) {
		return ErrExists
	}
	if !set.Interval {
		return nil
	}
	for _, other := range set.Elements {
		if other.ID() != e.ID() && overlaps(set.Key, e, other) {
			return fmt.Errorf("overlaps %s: %w", Format(set.Key, other.Key), ErrExists)
		}
	}
	return nil
}

// overlaps reports whether two elements of an interval set share a key.
func overlaps(types []Type, a, b Element) bool {
	af, al := split(types, a.Key), split(types, last(a))
	bf, bl := split(types, b.Key), split(types, last(b))
	for i := range types {
		if string(al[i]) < string(bf[i]) || string(bl[i]) < string(af[i]) {
			return false
		}
	}
	return true
}

func last(e Element) []byte {
	if e.End != nil {
		return e.End
	}
	return e.Key
}

func deleteElements(t *Table, s DeleteElements) error {
	set := t.Sets[s.Set.Name]
	if set == nil {
		return fmt.Errorf("set %s: %w", s.Set.Name, ErrNotFound)
	}
	for _, e := range s.Elements {
		if _, ok := set.Elements[e.ID()]; !ok {
			return fmt.Errorf("set %s: element %s: %w", set.Name, Format(set.Key, e.Key), ErrNotFound)
		}
		delete(set.Elements, e.ID())
	}
	return nil
}

// checkReferences refuses rules whose uses of a set do not fit its kind.
func checkReferences(t *Table) error {
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			for _, op := range r.Ops {
				if err := checkUse(t, op); err != nil {
					return fmt.Errorf("chain %s: %s: %w", c.Name, op, err)
				}
			}
		}
	}
	return nil
}

func checkUse(t *Table, op Op) error {
	set := t.Sets[setOf(op)]
	switch o := op.(type) {
	case Member:
		if set.IsMap() {
			return errors.New("a map can't be asked for membership")
		}
	case Get:
		if !set.IsMap() || set.IsVerdictMap() {
			return errors.New("not a map with data")
		}
	case Dispatch:
		if !set.IsVerdictMap() {
			return errors.New("not a verdict map")
		}
	case Update:
		if !set.Dynamic {
			return errors.New("not a dynamic set")
		}
		if o.Kind == Refresh && o.Timeout <= 0 {
			return errors.New("no timeout")
		}
	}
	return nil
}

// cloneTable copies a table so far that steps on the copy leave the original alone.
func cloneTable(t *Table) *Table {
	if t == nil {
		return nil
	}
	out := &Table{Family: t.Family, Name: t.Name, Chains: maps.Clone(t.Chains), Sets: make(map[string]*Set, len(t.Sets))}
	for name, s := range t.Sets {
		c := *s
		c.Elements = maps.Clone(s.Elements)
		out.Sets[name] = &c
	}
	return out
}
