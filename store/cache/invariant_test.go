// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build invariants

package cache_test

import (
	"strings"
	"testing"

	"kogge.dev/kogge/store/memory"
)

// caught runs fn until it panics, a few times at most: checks are samples.
func caught(fn func()) (message string) {
	defer func() {
		if r := recover(); r != nil {
			message, _ = r.(string)
		}
	}()
	for range 32 {
		fn()
	}
	return ""
}

func TestChangedObjectIsFound(t *testing.T) {
	r := newRig(t, memory.New())
	r.put("ns/a", "", "")
	r.fresh()
	e := r.get("ns/a")
	object(t, e).SetAnnotations(map[string]string{"changed": "by a reader"})
	if got := caught(func() { object(t, e) }); !strings.Contains(got, "changed the shared object of "+pods+"ns/a") {
		t.Errorf("the checks say %q", got)
	}
}

func TestChangedEncodingIsFound(t *testing.T) {
	r := newRig(t, memory.New())
	r.put("ns/a", "", "")
	r.fresh()
	e := r.get("ns/a")
	read := func() []byte {
		data, err := e.Encoded("json", func() ([]byte, error) { return []byte("{}"), nil })
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	read()[0] = '['
	if got := caught(func() { read() }); !strings.Contains(got, "shared json encoding was changed") {
		t.Errorf("the checks say %q", got)
	}
}
