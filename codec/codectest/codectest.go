// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package codectest holds readers of kube-apiserver's configuration files to what upstream's decoder, defaults and validation make of
// the same text.
package codectest

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
)

// Kind is a kind of file. Upstream has it as U, which has no version.
type Kind[U runtime.Object] struct {
	Name string
	// Versions that are read into the structure of the first.
	Versions []schema.GroupVersion
	// Judge is upstream's validation of a file with its defaults.
	Judge func(file U) error
	// Parse is ours: it reads a file, completes and judges it.
	Parse func(text []byte) (runtime.Object, error)
}

// SameFields holds what lets one structure read all versions.
func (k Kind[U]) SameFields(t *testing.T) {
	t.Helper()
	scheme := newScheme()
	var want []string
	for i, version := range k.Versions {
		obj, err := scheme.New(version.WithKind(k.Name))
		if err != nil {
			t.Fatal(err)
		}
		got := fields(reflect.TypeOf(obj))
		if i == 0 {
			want = got
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", version, diff)
		}
	}
}

// fields lists the JSON fields of a structure and those below, with the kinds of their values.
func fields(t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return []string{t.Kind().String()}
	}
	var out []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		for _, below := range fields(f.Type) {
			out = append(out, name+"."+below)
		}
	}
	return out
}

// Compare gives each file, which lacks its version and kind, to upstream and to us, in all versions. What upstream refuses must be
// refused with the same words; what it accepts must become the same file, defaults included. So that the comparison can't become one
// of files that are all refused for the same reason, or all good, the refusals must be at least so many different ones, and some file
// must be good.
func (k Kind[U]) Compare(t *testing.T, files []string, refusals int) {
	t.Helper()
	scheme := newScheme()
	reasons, accepted := map[string]bool{}, 0
	for _, file := range files {
		name, _, _ := strings.Cut(strings.TrimPrefix(file, "# "), "\n")
		t.Run(name, func(t *testing.T) {
			for _, version := range k.Versions {
				text := fmt.Appendf(nil, "apiVersion: %s\nkind: %s\n%s", version, k.Name, file)
				want, refusal := k.upstream(scheme, text)
				got, err := k.Parse(text)
				if refusal == nil && err == nil {
					accepted++
					k.same(t, scheme, want, got)
					continue
				}
				// Go types of ours, which some errors show, are those of the first version.
				words := strings.ReplaceAll(fmt.Sprint(refusal), "of type "+version.Version+".", "of type "+k.Versions[0].Version+".")
				if words != fmt.Sprint(err) {
					t.Errorf("%s\nupstream: %v\nours:     %v", text, words, err)
				}
				reasons[words] = true
			}
		})
	}
	if len(reasons) < refusals || accepted == 0 {
		t.Errorf("%d different refusals and %d good files, want at least %d and 1", len(reasons), accepted, refusals)
	}
}

func (k Kind[U]) upstream(scheme *runtime.Scheme, text []byte) (U, error) {
	var none U
	obj, err := runtime.Decode(serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder(), text)
	if err != nil {
		return none, err
	}
	file, ok := obj.(U)
	if !ok {
		return none, fmt.Errorf("a %T, not a %T", obj, none)
	}
	return file, k.Judge(file)
}

// same compares a file of ours with upstream's. The conversion adds no defaults.
func (k Kind[U]) same(t *testing.T, scheme *runtime.Scheme, want U, ours runtime.Object) {
	t.Helper()
	got, err := scheme.ConvertToVersion(ours, apiserver.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(runtime.Object(want), got); diff != "" {
		t.Errorf("upstream's file (-), ours (+):\n%s", diff)
	}
}

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	return scheme
}
