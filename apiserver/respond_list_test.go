// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"testing"

	"kogge.dev/kogge/apiserver/rest"
)

func TestListsOfCustomResourcesSayThatNothingFollows(t *testing.T) {
	left := int64(3)
	for want, l := range map[string]*rest.List{
		`{"continue":"","resourceVersion":"7"}`:                             {Revision: 7},
		`{"continue":"token","remainingItemCount":3,"resourceVersion":"7"}`: {Revision: 7, Continue: "token", Remaining: &left},
	} {
		if got, err := customListMeta(l); err != nil || string(got) != want {
			t.Errorf("customListMeta(%+v) = %s, %v; want %s", l, got, err, want)
		}
	}
}
