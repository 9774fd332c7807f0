// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package request_test

import (
	"slices"
	"testing"

	"kogge.dev/kogge/apiserver/request"
)

func TestWarningsAreWhatHeadersHold(t *testing.T) {
	s := &request.State{}
	for _, text := range []string{"one", "", "two\nlines", "one", "\xff", "a \"quote\"", "\x00"} {
		s.Warn(text)
	}
	if want := []string{"one", `a "quote"`}; !slices.Equal(s.Warnings, want) {
		t.Errorf("warnings %q, want %q", s.Warnings, want)
	}
}
