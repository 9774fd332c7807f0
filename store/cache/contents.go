// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import "github.com/google/btree"

// degree of the trees: nodes of 32 to 64 items, so that three levels hold 100,000 objects.
const degree = 32

// item of a tree: the key beside the pointer, so that comparing doesn't follow it and looking up doesn't allocate.
type item struct {
	key   string
	entry *Entry
}

// spare are nodes that all trees take from: a list of its own would be most of a small tree.
var spare = btree.NewFreeListG[item](btree.DefaultFreeListSize)

// contents are entries in the order of their keys. The zero value is empty. What is empty has no tree: most caches are, as most definitions have no objects.
type contents struct {
	tree *btree.BTreeG[item]
}

func (c contents) len() int {
	if c.tree == nil {
		return 0
	}
	return c.tree.Len()
}

// get returns the entry of a key, or nil.
func (c contents) get(key string) *Entry {
	if c.tree == nil {
		return nil
	}
	found, _ := c.tree.Get(item{key: key})
	return found.entry
}

// from calls visit with the items whose keys are key or behind it, in order, until it returns false.
func (c contents) from(key string, visit func(item) bool) {
	if c.tree != nil {
		c.tree.AscendGreaterOrEqual(item{key: key}, visit)
	}
}

// put returns the entry that key had before, or nil.
func (c *contents) put(key string, e *Entry) (old *Entry) {
	if c.tree == nil {
		c.tree = btree.NewWithFreeListG(degree, func(a, b item) bool { return a.key < b.key }, spare)
	}
	was, _ := c.tree.ReplaceOrInsert(item{key, e})
	return was.entry
}

// remove returns the entry that key had, or nil.
func (c *contents) remove(key string) (old *Entry) {
	if c.tree == nil {
		return nil
	}
	was, _ := c.tree.Delete(item{key: key})
	if c.tree.Len() == 0 {
		c.tree = nil
	}
	return was.entry
}

// clone returns contents of which changes of c are no part, nor the other way round.
func (c contents) clone() contents {
	if c.tree == nil {
		return contents{}
	}
	return contents{tree: c.tree.Clone()}
}
