// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"maps"
	"slices"

	"kogge.dev/kogge/nft"
)

// delta gathers the differences of several Services into one transaction.
type delta struct {
	core        *Core
	gone, added map[string][]nft.Element // by set
	newChains   map[chain]struct{}
	deadChains  map[chain]struct{}
	// touched shared elements, with whether they were in the table before.
	touched map[sharedElement]bool
}

func newDelta(c *Core) *delta {
	return &delta{
		core: c, gone: map[string][]nft.Element{}, added: map[string][]nft.Element{},
		newChains: map[chain]struct{}{}, deadChains: map[chain]struct{}{}, touched: map[sharedElement]bool{},
	}
}

// compare adds one Service's difference and moves the reference counts of what is shared.
func (d *delta) compare(before, now product) {
	for key, e := range before.elements {
		if is, ok := now.elements[key]; !ok || !is.Same(e) {
			d.gone[key.set] = append(d.gone[key.set], e)
		}
	}
	for key, e := range now.elements {
		if was, ok := before.elements[key]; !ok || !was.Same(e) {
			d.added[key.set] = append(d.added[key.set], e)
		}
	}
	for e := range now.shared {
		d.share(e, +1)
	}
	for e := range before.shared {
		d.share(e, -1)
	}
	for ch := range now.chains {
		d.use(ch, +1)
	}
	for ch := range before.chains {
		d.use(ch, -1)
	}
}

func (d *delta) share(e sharedElement, by int) {
	if _, seen := d.touched[e]; !seen {
		d.touched[e] = d.core.shared[e] > 0
	}
	d.core.shared[e] += by
	if d.core.shared[e] == 0 {
		delete(d.core.shared, e)
	}
}

// use counts a chain's users; a chain that lost its last user and got a new one in the same delta is neither new nor dead.
func (d *delta) use(ch chain, by int) {
	was := d.core.chains[ch]
	d.core.chains[ch] = was + by
	switch {
	case was == 0:
		if _, dying := d.deadChains[ch]; dying {
			delete(d.deadChains, ch)
		} else {
			d.newChains[ch] = struct{}{}
		}
	case was+by == 0:
		delete(d.core.chains, ch)
		if _, fresh := d.newChains[ch]; fresh {
			delete(d.newChains, ch)
		} else {
			d.deadChains[ch] = struct{}{}
		}
	}
}

// transaction orders the steps: chains before the elements that lead to them, old elements before new ones with the same key, and
// chains go last.
func (d *delta) transaction() *nft.Transaction {
	for e, was := range d.touched {
		element := nft.Element{Key: []byte(e.key)}
		switch is := d.core.shared[e] > 0; {
		case is && !was:
			d.added[e.set] = append(d.added[e.set], element)
		case was && !is:
			d.gone[e.set] = append(d.gone[e.set], element)
		}
	}
	tx := &nft.Transaction{Family: nft.INet, Table: TableName}
	add := func(s nft.Step) { tx.Steps = append(tx.Steps, s) }
	for _, ch := range sortedChains(d.newChains) {
		add(nft.AddChain{Chain: nft.Chain{Name: ch.String()}})
		add(nft.SetRules{Chain: ch.String(), Rules: d.core.chainRules(ch)})
	}
	shapes := map[string]*nft.Set{}
	for _, l := range layouts() {
		for _, s := range l.sets(d.core.config) {
			shapes[s.Name] = &s
		}
	}
	for _, set := range slices.Sorted(maps.Keys(d.gone)) {
		add(nft.DeleteElements{Set: shapes[set], Elements: ordered(d.gone[set])})
	}
	for _, set := range slices.Sorted(maps.Keys(d.added)) {
		add(nft.AddElements{Set: shapes[set], Elements: ordered(d.added[set])})
	}
	for _, ch := range sortedChains(d.deadChains) {
		add(nft.DeleteChain{Name: ch.String()})
	}
	return tx
}

func ordered(list []nft.Element) []nft.Element {
	slices.SortFunc(list, func(a, b nft.Element) int { return cmp.Compare(a.ID(), b.ID()) })
	return list
}
