// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"maps"
	"reflect"
	"slices"
)

// Transaction is an ordered list of steps that takes effect as a whole or not at all. It touches one table only.
//
// The kernel's ordering rules, which Fake enforces: what a rule or element names must exist before it; a key that is in a map
// with another value must be deleted before it is added; a chain or set can be deleted only when nothing refers to it.
type Transaction struct {
	Family Family
	Table  string
	Steps  []Step
}

// Step is one command of a transaction.
type Step interface{ step() }

// AddTable makes the table unless it is there.
type AddTable struct{}

// DeleteTable removes the table, which must be there, with all that it holds.
type DeleteTable struct{}

// AddChain makes a chain without rules (the chain's Rules are not read), unless it is there.
type AddChain struct{ Chain Chain }

// SetRules replaces the rules of a chain.
type SetRules struct {
	Chain string
	Rules []Rule
}

// DeleteChain removes a chain and its rules.
type DeleteChain struct{ Name string }

// AddSet makes a set or map without elements (Elements is not read), unless it is there.
type AddSet struct{ Set Set }

// DeleteSet removes a set with its elements.
type DeleteSet struct{ Name string }

// AddElements adds elements to a set. Set carries the set's shape; its Elements are not read.
type AddElements struct {
	Set      *Set
	Elements []Element
}

// DeleteElements removes elements, which must be there, from a set.
type DeleteElements struct {
	Set      *Set
	Elements []Element
}

func (AddTable) step()       {}
func (DeleteTable) step()    {}
func (AddChain) step()       {}
func (SetRules) step()       {}
func (DeleteChain) step()    {}
func (AddSet) step()         {}
func (DeleteSet) step()      {}
func (AddElements) step()    {}
func (DeleteElements) step() {}

// Empty reports whether the transaction changes nothing.
func (tx *Transaction) Empty() bool { return len(tx.Steps) == 0 }

// Remove returns the transaction that removes a table whether or not it exists.
func Remove(family Family, table string) *Transaction {
	return &Transaction{Family: family, Table: table, Steps: []Step{AddTable{}, DeleteTable{}}}
}

// Replace returns the transaction that makes a table equal to t whatever it held before. No packet meets a state in between.
func Replace(t *Table) *Transaction {
	tx := Remove(t.Family, t.Name)
	tx.Steps = append(tx.Steps, Diff(nil, t).Steps...)
	return tx
}

// Diff returns the transaction that turns old into new. Old nil means that the table does not exist; new nil removes it. Elements
// of dynamic sets are left alone, except that a new dynamic set starts with its elements.
func Diff(old, new *Table) *Transaction {
	if new == nil {
		if old == nil {
			return &Transaction{}
		}
		return &Transaction{Family: old.Family, Table: old.Name, Steps: []Step{DeleteTable{}}}
	}
	d := differ{tx: &Transaction{Family: new.Family, Table: new.Name}, old: old, new: new}
	if old == nil {
		d.old = &Table{}
		d.add(AddTable{})
	}
	d.diff()
	return d.tx
}

type differ struct {
	tx       *Transaction
	old, new *Table
}

func (d *differ) add(s Step) { d.tx.Steps = append(d.tx.Steps, s) }

// diff emits steps in an order that never breaks a reference: rules that change lose their old text first, then what they
// referred to may go; new names appear before the elements and rules that use them.
func (d *differ) diff() {
	remade := d.remadeSets()
	for _, name := range sorted(d.old.Chains) {
		was, is := d.old.Chains[name], d.new.Chains[name]
		if len(was.Rules) > 0 && (is == nil || !sameRules(was.Rules, is.Rules) || mentions(was.Rules, remade)) {
			d.add(SetRules{Chain: name})
		}
	}
	d.removeSets(remade)
	for _, name := range sorted(d.old.Chains) {
		if is := d.new.Chains[name]; is == nil || !sameHook(is, d.old.Chains[name]) {
			d.add(DeleteChain{name})
		}
	}
	for _, name := range sorted(d.new.Chains) {
		is := d.new.Chains[name]
		if was := d.old.Chains[name]; was == nil || !sameHook(is, was) {
			d.add(AddChain{Chain{Name: is.Name, Hook: is.Hook, Kind: is.Kind, Priority: is.Priority}})
		}
	}
	d.addSets(remade)
	for _, name := range sorted(d.new.Chains) {
		was, is := d.old.Chains[name], d.new.Chains[name]
		if len(is.Rules) > 0 && (was == nil || !sameHook(is, was) || !sameRules(was.Rules, is.Rules) || mentions(is.Rules, remade)) {
			d.add(SetRules{Chain: name, Rules: is.Rules})
		}
	}
}

// remadeSets are those whose shape changed.
func (d *differ) remadeSets() map[string]bool {
	out := map[string]bool{}
	for name, was := range d.old.Sets {
		if is := d.new.Sets[name]; is != nil && !was.sameShape(is) {
			out[name] = true
		}
	}
	return out
}

func (d *differ) removeSets(remade map[string]bool) {
	for _, name := range sorted(d.old.Sets) {
		if d.new.Sets[name] == nil || remade[name] {
			d.add(DeleteSet{name})
		}
	}
	for _, name := range sorted(d.old.Sets) {
		if was, is := d.old.Sets[name], d.new.Sets[name]; is != nil && !remade[name] && !is.Dynamic {
			d.removeElements(was, is)
		}
	}
}

func (d *differ) addSets(remade map[string]bool) {
	for _, name := range sorted(d.new.Sets) {
		if d.old.Sets[name] == nil || remade[name] {
			shape := *d.new.Sets[name]
			shape.Elements = nil
			d.add(AddSet{shape})
		}
	}
	for _, name := range sorted(d.new.Sets) {
		is := d.new.Sets[name]
		was := d.old.Sets[name]
		if remade[name] {
			was = nil
		}
		if was != nil && is.Dynamic {
			continue
		}
		var added []Element
		for _, id := range sorted(is.Elements) {
			e := is.Elements[id]
			if was != nil {
				if prior, ok := was.Elements[id]; ok && prior.Same(e) {
					continue
				}
			}
			added = append(added, e)
		}
		if len(added) > 0 {
			d.add(AddElements{Set: is, Elements: added})
		}
	}
}

func (d *differ) removeElements(was, is *Set) {
	var gone []Element
	for _, id := range sorted(was.Elements) {
		e := was.Elements[id]
		if stays, ok := is.Elements[id]; !ok || !stays.Same(e) {
			gone = append(gone, e)
		}
	}
	if len(gone) > 0 {
		d.add(DeleteElements{Set: is, Elements: gone})
	}
}

func sameHook(a, b *Chain) bool {
	return a.Hook == b.Hook && a.Kind == b.Kind && a.Priority == b.Priority
}

func sameRules(a, b []Rule) bool {
	return len(a) == len(b) && (len(a) == 0 || reflect.DeepEqual(a, b))
}

// mentions reports whether a rule names one of the sets.
func mentions(rules []Rule, sets map[string]bool) bool {
	if len(sets) == 0 {
		return false
	}
	for _, r := range rules {
		for _, op := range r.Ops {
			if sets[setOf(op)] {
				return true
			}
		}
	}
	return false
}

// setOf returns the set that an instruction names, or nothing.
func setOf(op Op) string {
	switch o := op.(type) {
	case Member:
		return o.Set
	case Get:
		return o.Map
	case Dispatch:
		return o.Map
	case Update:
		return o.Set
	}
	return ""
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
