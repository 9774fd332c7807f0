// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package queues

import "slices"

// hand deals cards of a deck by shuffle sharding: flows that share one queue differ, most likely, in the others. The hash is read as a
// number with one digit per card, each in a base one smaller than the last (the deck shrinks).
func hand(hash uint64, deck, size int) []int {
	size = min(max(size, 1), deck)
	dealt := make([]int, 0, size)
	sorted := make([]int, 0, size)
	for n := range size {
		left := uint64(deck - n) // Not negative: n < size <= deck.
		card := int(hash % left) // Below deck.
		hash /= left
		// The card's place among those left becomes its place in the whole deck.
		at := 0
		for at < len(sorted) && sorted[at] <= card {
			card++
			at++
		}
		sorted = slices.Insert(sorted, at, card)
		dealt = append(dealt, card)
	}
	return dealt
}
