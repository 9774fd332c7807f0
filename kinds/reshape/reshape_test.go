// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reshape_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"kogge.dev/kogge/kinds/reshape"
)

type (
	word  string
	inner struct{ A int }
	from  struct {
		Text    string
		Maybe   *string
		None    *string
		Flag    bool
		Off     bool
		Parts   []inner
		Empty   []inner
		Missing []inner
		Named   map[string]inner
		Same    *int
		OnlyOld int
	}
	other struct{ A int64 }
	to    struct {
		Text    word
		Maybe   word
		None    word
		Flag    *bool
		Off     *bool
		Parts   []other
		Empty   []other
		Missing []other
		Named   map[word]other
		Same    *int
		OnlyNew int
	}
)

func TestCopyThereAndBack(t *testing.T) {
	text, number, on := "maybe", 7, true
	in := from{
		Text: "text", Maybe: &text, Flag: true, Parts: []inner{{1}, {2}}, Empty: []inner{}, Named: map[string]inner{"n": {3}}, Same: &number, OnlyOld: 1,
	}
	out := to{OnlyNew: 5}
	reshape.Copy(&out, &in)
	want := to{
		Text: "text", Maybe: "maybe", Flag: &on, Parts: []other{{1}, {2}}, Empty: []other{}, Named: map[word]other{"n": {3}}, Same: &number, OnlyNew: 5,
	}
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("Copy (-want +got):\n%s", diff)
	}
	back := from{OnlyOld: 1}
	reshape.Copy(&back, &out)
	if diff := cmp.Diff(in, back); diff != "" {
		t.Errorf("Copy back (-want +got):\n%s", diff)
	}
}

func TestCopyOfWhatDoesNotFit(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Copy makes a number of a structure")
		}
	}()
	reshape.Copy(&struct{ A int }{}, &struct{ A inner }{})
}
