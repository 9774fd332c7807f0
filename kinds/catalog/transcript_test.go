// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package catalog_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/kinds"
)

// readsItself is what all types have that have a form in protobuf.
type readsItself interface {
	runtime.Object
	Unmarshal(data []byte) error
}

// holdsObjects are the kinds that may hold others whole, of which protobuf does not say what JSON says: their type.
var holdsObjects = map[string]bool{"StatefulSet": true, "Eviction": true}

// transcribed decodes raw into an empty object and compares what comes of that, in JSON, with what is transcribed. It returns false where there is
// JSON, but no transcript.
func transcribed(t *testing.T, obj runtime.Object, gvk schema.GroupVersionKind, raw []byte) bool {
	t.Helper()
	transcriber := codec.NewTranscriber(obj, gvk)
	if transcriber == nil {
		return false
	}
	transcriber.AppendJSON(nil, codec.NewMessage(raw)) // Whatever it is.
	object, ok := obj.(readsItself)
	if !ok || object.Unmarshal(raw) != nil {
		return false
	}
	object.GetObjectKind().SetGroupVersionKind(gvk)
	again, err := codec.Raw(object)
	if err != nil {
		return false
	}
	got, ok := transcriber.AppendJSON(nil, codec.NewMessage(again))
	want, err := codec.AppendJSON(nil, obj)
	if ok && (err != nil || !bytes.Equal(got, want)) {
		t.Errorf("%s is transcribed as %s, want %s, %v", gvk, got, want, err)
	}
	return ok || err != nil
}

func TestTranscriptsAreThoseOfTheObjects(t *testing.T) {
	eachFilled(t, func(t *testing.T, _ *kinds.Kind, served *kinds.Served, obj kinds.Object) {
		obj.SetManagedFields([]metav1.ManagedFieldsEntry{
			{Manager: "<&>", Time: &metav1.Time{}, FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:a":{".":{},"k:{\"b\":1.5e3}":null}}`)}},
			{FieldsV1: &metav1.FieldsV1{Raw: []byte("{ \"f:<\": [true] }")}},
		})
		for _, obj := range []kinds.Object{obj, served.New()} {
			raw, err := codec.Raw(obj)
			if err != nil {
				t.Fatal(err)
			}
			if !transcribed(t, served.New(), served.GroupVersionKind, raw) && !holdsObjects[served.Kind] {
				t.Errorf("a %s is not transcribed", served.Kind)
			}
		}
	})
}

// TestTranscriptsAreThoseOfWhatIsServed has defaults filled in, as they are in what is read: some say what protobuf does not.
func TestTranscriptsAreThoseOfWhatIsServed(t *testing.T) {
	seen := 0
	eachFilled(t, func(t *testing.T, k *kinds.Kind, served *kinds.Served, obj kinds.Object) {
		if served.GroupVersionKind != k.Storage.GroupVersionKind || k.Default == nil {
			return
		}
		read := func(raw []byte) (kinds.Object, []byte) {
			out := served.New()
			if err := out.(readsItself).Unmarshal(raw); err != nil {
				t.Fatal(err)
			}
			out.GetObjectKind().SetGroupVersionKind(served.GroupVersionKind)
			k.Default(out)
			again, err := codec.Raw(out)
			if err != nil {
				t.Fatal(err)
			}
			return out, again
		}
		for _, obj := range []kinds.Object{obj, served.New()} {
			raw, err := codec.Raw(obj)
			if err != nil {
				t.Fatal(err)
			}
			_, stored := read(raw)
			out, again := read(stored)
			if !bytes.Equal(stored, again) {
				continue // It is not taken for what is stored.
			}
			want, err := codec.AppendJSON(nil, out)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := codec.NewTranscriber(out, served.GroupVersionKind).AppendJSON(nil, codec.NewMessage(stored)); ok {
				if seen++; !bytes.Equal(got, want) {
					t.Errorf("%s is transcribed as %s, want %s", served.Kind, got, want)
				}
			}
		}
	})
	if seen < 30 {
		t.Errorf("only %d objects were transcribed", seen)
	}
}

// TestUpstreamsExamplesAreTranscribed goes through what k8s.io/api has of every type in its releases, with all fields set.
func TestUpstreamsExamplesAreTranscribed(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "testdata", "*", "*.pb"))
	if err != nil {
		t.Fatal(err)
	}
	scheme, n := everything(t).Scheme(), 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var envelope runtime.Unknown
		if err := envelope.Unmarshal(data[4:]); err != nil {
			t.Fatal(err)
		}
		obj, err := scheme.New(envelope.GroupVersionKind())
		if err != nil {
			continue // Not served any more, or nothing of its own.
		}
		if n++; !transcribed(t, obj, envelope.GroupVersionKind(), envelope.Raw) && !holdsObjects[envelope.Kind] {
			t.Errorf("%s is not transcribed", file)
		}
	}
	if n < 250 {
		t.Errorf("%d of %d examples are known", n, len(files))
	}
}

func FuzzTranscript(f *testing.F) {
	var served []*kinds.Served
	for _, k := range everything(f).All() {
		for i := range k.Served {
			obj := k.Served[i].New()
			random(f, 1, obj)
			raw, err := codec.Raw(obj)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint(len(served)), raw)
			served = append(served, &k.Served[i])
		}
	}
	f.Fuzz(func(t *testing.T, i uint, raw []byte) {
		one := served[i%uint(len(served))]
		transcribed(t, one.New(), one.GroupVersionKind, raw)
	})
}
