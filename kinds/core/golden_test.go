// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/objectmeta"
)

// The files in testdata were recorded from upstream v1.36.3, not from our own output: what it makes of each manifest
// (accepted), and what it says of manifests with one mistake (refused; the mistake is a JSON patch). Where kogge must
// differ, the case is removed by hand, and the reason is here:
//   - Services without clusterIPs: upstream fills them in its REST layer, kogge before validation.
//   - What Go calls the type in an annotation that can't be decoded: upstream decodes a type of its own.

var then = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))

func TestAccepted(t *testing.T) {
	datadriven.Walk(t, "testdata/accepted", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			k, obj := load(t, d.CmdArgs[0].Key, "")
			fill(k, obj)
			switch d.Cmd {
			case "row":
				return row(k, obj)
			case "warn":
				prepareNew(k, obj)
				return lines(slices.Sorted(slices.Values(k.Warn(kinds.Request{Now: then}, obj, nil))))
			}
			prepareNew(k, obj)
			fill(k, obj)
			return manifest(t, obj)
		})
	})
}

func TestRefused(t *testing.T) {
	datadriven.Walk(t, "testdata/refused", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			k, obj := load(t, d.CmdArgs[0].Key, d.Input)
			fill(k, obj)
			if d.Cmd == "create" {
				return lines(create(k, obj))
			}
			_, old := load(t, d.CmdArgs[0].Key, "")
			fill(k, old)
			obj.SetResourceVersion("1")
			old.SetResourceVersion("1")
			before := encode(t, old)
			_, sub, _ := strings.Cut(d.Cmd, "-")
			got := lines(update(k, sub, obj, old))
			if !bytes.Equal(encode(t, old), before) {
				t.Errorf("%s: %s changed the old object", d.Pos, d.Cmd)
			}
			return got
		})
	})
}

// load reads a manifest ("file/number") and applies a JSON patch of one operation to it.
func load(t *testing.T, name, patch string) (*kinds.Kind, kinds.Object) {
	t.Helper()
	file, number, _ := strings.Cut(name, "/")
	data, err := os.ReadFile(filepath.Join("testdata", "manifests", file+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	i, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := yaml.YAMLToJSON([]byte(strings.Split(string(data), "\n---\n")[i]))
	if err != nil {
		t.Fatal(err)
	}
	if patch != "" {
		p, err := jsonpatch.DecodePatch([]byte("[" + patch + "]"))
		if err != nil {
			t.Fatal(err)
		}
		if raw, err = p.Apply(raw); err != nil {
			t.Fatal(err)
		}
	}
	var meta metav1.TypeMeta
	if err := json.Unmarshal(raw, &meta); err != nil {
		t.Fatal(err)
	}
	k := named(t, meta.Kind)
	obj := k.Storage.New()
	if err := json.Unmarshal(raw, obj); err != nil {
		t.Fatal(err)
	}
	return k, obj
}

func named(t *testing.T, kind string) *kinds.Kind {
	t.Helper()
	for _, k := range Kinds() {
		if k.Storage.Kind == kind {
			return k
		}
	}
	t.Fatalf("no kind %q", kind)
	return nil
}

func fill(k *kinds.Kind, obj kinds.Object) {
	if k.Default != nil {
		k.Default(obj)
	}
}

func prepareNew(k *kinds.Kind, obj kinds.Object) {
	if k.PrepareCreate != nil {
		k.PrepareCreate(kinds.Request{Now: then}, obj)
	}
}

func create(k *kinds.Kind, obj kinds.Object) []string {
	prepareNew(k, obj)
	scope := objectmeta.Cluster
	if k.Namespaced {
		scope = objectmeta.Namespaced
	}
	var errs field.ErrorList
	if k.Resource != "events" { // the API server judges their metadata, upstream's own strategy does not
		errs = objectmeta.Validate(obj, scope, k.ValidateName, field.NewPath("metadata"))
	}
	if k.Validate != nil {
		errs = append(errs, k.Validate(kinds.Request{Now: then}, obj)...)
	}
	return texts(errs)
}

func update(k *kinds.Kind, sub string, obj, old kinds.Object) []string {
	req := kinds.Request{Now: then, Subresource: sub}
	prepare, judge := k.PrepareUpdate, k.ValidateUpdate
	if sub != "" {
		s := k.Subresource(sub)
		prepare, judge = s.Prepare, s.Validate
	}
	obj.SetGeneration(old.GetGeneration())
	if prepare != nil {
		prepare(req, obj, old)
	}
	errs := objectmeta.ValidateUpdate(obj, old, field.NewPath("metadata"))
	if judge != nil {
		errs = append(errs, judge(req, obj, old)...)
	}
	return texts(errs)
}

// texts writes errors as the recorder did: sorted, once each, values only where they are plain, no diffs.
func texts(errs field.ErrorList) []string {
	var out []string
	for _, e := range errs {
		v := reflect.ValueOf(e.BadValue)
		for v.IsValid() && v.Kind() == reflect.Pointer && !v.IsNil() {
			v = v.Elem()
		}
		bad := ""
		if v.IsValid() {
			switch v.Kind() { //nolint:exhaustive // the plain ones
			case reflect.String, reflect.Int, reflect.Int32, reflect.Int64, reflect.Bool:
				bad = fmt.Sprint(v.Interface())
			}
		}
		detail, _, _ := strings.Cut(e.Detail, "\n")
		out = append(out, strings.TrimSuffix(fmt.Sprintf("%s %s %q: %s", e.Type, e.Field, bad, detail), ": "))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func lines(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return strings.Join(texts, "\n") + "\n"
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func manifest(t *testing.T, obj kinds.Object) string {
	t.Helper()
	var tree map[string]any
	if err := json.Unmarshal(encode(t, obj), &tree); err != nil {
		t.Fatal(err)
	}
	delete(tree, "apiVersion")
	delete(tree, "kind")
	delete(tree["metadata"].(map[string]any), "creationTimestamp")
	if status, ok := tree["status"].(map[string]any); ok {
		delete(status, "lastPhaseTransitionTime")
	}
	text, err := yaml.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func row(k *kinds.Kind, obj kinds.Object) string {
	var columns, cells []string
	for _, c := range k.Table.Columns {
		name := c.Name
		if c.Priority > 0 {
			name += " (wide)"
		}
		columns = append(columns, name)
	}
	for _, c := range k.Table.Row(obj, then.Time) {
		cells = append(cells, fmt.Sprint(c))
	}
	return strings.Join(columns, "|") + "\n" + strings.Join(cells, "|") + "\n"
}
