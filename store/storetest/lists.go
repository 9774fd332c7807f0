// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kogge.dev/kogge/store"
)

var listChecks = []check{
	{name: "a list has the keys of its prefix in order", run: func(t *testing.T, s store.Store) {
		b := create(t, s, "/registry/pods/ns/b", "2")
		a := create(t, s, "/registry/pods/ns/a", "1")
		create(t, s, "/registry/pods/nsx/a", "other namespace")
		rev := create(t, s, "/registry/podsets/ns/a", "other kind")
		checkList(t, s, store.ListOptions{Prefix: "/registry/pods/ns/"}, rev,
			fmt.Sprintf("/registry/pods/ns/a=1 created %d modified %d", a, a),
			fmt.Sprintf("/registry/pods/ns/b=2 created %d modified %d", b, b))
		checkList(t, s, store.ListOptions{Prefix: "/registry/jobs/"}, rev)
	}},
	{name: "pages at one revision show one state", run: checkPages},
	{name: "a list at an old revision shows that state", run: func(t *testing.T, s store.Store) {
		one := create(t, s, "/registry/pods/a", "1")
		two := update(t, s, "/registry/pods/a", "2", one)
		three := create(t, s, "/registry/pods/b", "1")
		remove(t, s, "/registry/pods/a", two)
		state := func(rev int64, want ...string) {
			t.Helper()
			checkList(t, s, store.ListOptions{Prefix: "/registry/pods/", Revision: rev}, rev, want...)
		}
		first := fmt.Sprintf("/registry/pods/a=1 created %d modified %d", one, one)
		second := fmt.Sprintf("/registry/pods/a=2 created %d modified %d", one, two)
		third := fmt.Sprintf("/registry/pods/b=1 created %d modified %d", three, three)
		state(one, first)
		state(two, second)
		state(three, second, third)
		state(three+1, third)
	}},
	{name: "a list at a future revision is refused", run: func(t *testing.T, s store.Store) {
		rev := create(t, s, "/registry/pods/a", "1")
		_, err := s.List(t.Context(), store.ListOptions{Prefix: "/registry/pods/", Revision: rev + 1})
		wantErr(t, "List(future)", err, store.ErrFuture)
	}},
	{name: "a list before the compaction is refused, at it not", run: func(t *testing.T, s store.Store) {
		one := create(t, s, "/registry/pods/a", "1")
		two := update(t, s, "/registry/pods/a", "2", one)
		three := update(t, s, "/registry/pods/a", "3", two)
		compact(t, s, two)
		_, err := s.List(t.Context(), store.ListOptions{Prefix: "/registry/pods/", Revision: one})
		wantErr(t, "List(compacted)", err, store.ErrCompacted)
		checkList(t, s, store.ListOptions{Prefix: "/registry/pods/", Revision: two}, two,
			fmt.Sprintf("/registry/pods/a=2 created %d modified %d", one, two))
		wantErr(t, "Compact(compacted)", s.Compact(t.Context(), one), store.ErrCompacted)
		wantErr(t, "Compact(future)", s.Compact(t.Context(), three+1), store.ErrFuture)
	}},
	{name: "a compaction leaves the present and forgets the deleted", run: func(t *testing.T, s store.Store) {
		a := create(t, s, "/registry/pods/a", "1")
		b := create(t, s, "/registry/pods/b", "1")
		rev := remove(t, s, "/registry/pods/a", a)
		compact(t, s, rev)
		checkList(t, s, store.ListOptions{Prefix: "/registry/pods/"}, rev,
			fmt.Sprintf("/registry/pods/b=1 created %d modified %d", b, b))
		create(t, s, "/registry/pods/a", "2")
	}},
}

func checkList(t *testing.T, s store.Store, opts store.ListOptions, revision int64, want ...string) {
	t.Helper()
	page, err := s.List(t.Context(), opts)
	if err != nil {
		t.Fatalf("List(%+v): %v", opts, err)
	}
	if page.Revision != revision || page.Remaining != 0 {
		t.Errorf("List(%+v) = revision %d, remaining %d, want %d, 0", opts, page.Revision, page.Remaining, revision)
	}
	if diff := cmp.Diff(append([]string{}, want...), texts(page.Records)); diff != "" {
		t.Errorf("List(%+v) (-want +got):\n%s", opts, diff)
	}
}

func checkPages(t *testing.T, s store.Store) {
	const n = 7
	revs := make([]int64, n)
	for i := range revs {
		revs[i] = create(t, s, fmt.Sprintf("/registry/pods/ns/%d", i), "1")
	}
	at := revs[n-1]
	opts := store.ListOptions{Prefix: "/registry/pods/ns/", Limit: 3}
	seen := 0
	for _, remaining := range []int64{4, 1, 0} {
		page, err := s.List(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if page.Revision != at || page.Remaining != remaining {
			t.Errorf("List(%+v) = revision %d, remaining %d, want %d, %d", opts, page.Revision, page.Remaining, at, remaining)
		}
		for _, r := range page.Records {
			if want := fmt.Sprintf("/registry/pods/ns/%d=1 created %d modified %d", seen, revs[seen], revs[seen]); text(r) != want {
				t.Errorf("record %d = %s, want %s", seen, text(r), want)
			}
			seen++
		}
		opts.Revision = page.Revision
		opts.From = page.Records[len(page.Records)-1].Key + "\x00"
		// Changes in between are not seen by the pages to come.
		create(t, s, fmt.Sprintf("/registry/pods/ns/late-%d", seen), "1")
		if seen == 3 {
			remove(t, s, "/registry/pods/ns/5", revs[5])
		}
	}
	if seen != n {
		t.Errorf("%d records, want %d", seen, n)
	}
}
