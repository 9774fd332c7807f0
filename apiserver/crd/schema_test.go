// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"context"
	"errors"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// A schema is read when somebody needs it, and kept for objects alone, and columns likewise; what can't be read is asked for again.
func TestSchemasAreReadOnUse(t *testing.T) {
	crd, reads, away := definition(t, tabSchema), 0, error(nil)
	s, err := newServed(crd, relabel, func(context.Context, string) (*apiextensionsv1.CustomResourceDefinition, error) {
		reads++
		return crd, away
	})
	if err != nil {
		t.Fatal(err)
	}
	want := func(n int, after string) {
		t.Helper()
		if reads != n {
			t.Fatalf("%d reads after %s, want %d", reads, after, n)
		}
	}
	want(0, "it was served")
	for range 2 {
		if _, err := s.openAPI("v1"); err != nil {
			t.Fatal(err)
		}
	}
	want(2, "it was published twice")
	away = errors.New("away")
	if _, err := s.version("v1").complete(tree(t, "spec: {name: a}")); !errors.Is(err, away) {
		t.Fatalf("complete = %v, want %v", err, away)
	}
	away = nil
	for range 2 {
		if _, err := s.version("v1").complete(tree(t, "spec: {name: a}")); err != nil {
			t.Fatal(err)
		}
	}
	want(4, "three objects, one of which found it away")
	if _, err := s.openAPI("v1"); err != nil {
		t.Fatal(err)
	}
	want(4, "it was published once more")
	gv := s.gvk("v1").GroupVersion()
	away = errors.New("away")
	if table := s.resource.Custom.Table(gv); table != nil {
		t.Errorf("the table of a definition that is away = %v, want none", table.Columns)
	}
	away = nil
	for range 2 {
		if table := s.resource.Custom.Table(gv); table == nil || len(table.Columns) != 2 {
			t.Errorf("the table = %v, want name and age", table)
		}
	}
	want(6, "three tables, one of which found it away")
	if crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties["min"].Default == nil {
		t.Error("the definition was changed")
	}
}
