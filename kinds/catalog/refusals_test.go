// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package catalog_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/kinds/kindstest"
)

// subject is one good manifest with all that is done to it.
type subject struct {
	kind     *kinds.Kind
	served   *kinds.Served
	manifest map[string]any
	// stored is the manifest as a server would have stored it, with a status.
	stored map[string]any
}

func (s *subject) title(mode string) string {
	meta, _ := s.manifest["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	return fmt.Sprintf("%s %s %s %s", mode, s.manifest["apiVersion"], s.manifest["kind"], name)
}

func (s *subject) decode(manifest map[string]any) (kinds.Object, error) {
	text, err := json.Marshal(manifest)
	if err != nil {
		return nil, err
	}
	obj := s.served.New()
	if err := json.Unmarshal(text, obj); err != nil {
		return nil, err
	}
	if s.served.Default != nil {
		s.served.Default(obj)
	}
	if s.served.ToStorage != nil {
		if obj, err = s.served.ToStorage(obj); err != nil {
			return nil, err
		}
	}
	if s.kind.Default != nil {
		s.kind.Default(obj)
	}
	return obj, nil
}

func request(subresource string) kinds.Request {
	return kinds.Request{Now: metav1.NewTime(time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)), User: "me", Groups: []string{"g"}, Subresource: subresource}
}

// create prepares and judges a new object; it returns no object where the manifest can't even be read.
func (s *subject) create(manifest map[string]any) (kinds.Object, field.ErrorList) {
	obj, err := s.decode(manifest)
	if err != nil {
		return nil, nil
	}
	if s.kind.PrepareCreate != nil {
		s.kind.PrepareCreate(request(""), obj)
	}
	if s.kind.Validate == nil {
		return obj, nil
	}
	return obj, s.kind.Validate(request(""), obj)
}

// replace prepares and judges an update; it reports false where the manifest can't even be read.
func (s *subject) replace(subresource string, manifest, stored map[string]any) (field.ErrorList, bool) {
	new, err := s.decode(manifest)
	if err != nil {
		return nil, false
	}
	old, err := s.decode(stored)
	if err != nil {
		return nil, false
	}
	prepare, judge := s.kind.PrepareUpdate, s.kind.ValidateUpdate
	if subresource != "" {
		sub := s.kind.Subresource(subresource)
		prepare, judge = sub.Prepare, sub.Validate
	}
	if prepare != nil {
		prepare(request(subresource), new, old)
	}
	if judge == nil {
		return nil, true
	}
	return judge(request(subresource), new, old), true
}

func readFile(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatal(name, err)
	}
}

// subjects reads the good manifests, and makes of each what a server would have stored.
func subjects(t *testing.T) []*subject {
	t.Helper()
	statuses := map[string]any{}
	readFile(t, "status.yaml", &statuses)
	text, err := os.ReadFile("testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	known := catalog.New()
	var out []*subject
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		s := &subject{manifest: map[string]any{}, stored: map[string]any{}}
		if err := yaml.Unmarshal([]byte(document), &s.manifest); err != nil {
			t.Fatal(err)
		}
		gv, err := schema.ParseGroupVersion(s.manifest["apiVersion"].(string))
		if err != nil {
			t.Fatal(err)
		}
		s.kind, s.served = known.ByKind(gv.WithKind(s.manifest["kind"].(string)))
		obj, errs := s.create(s.manifest)
		if obj == nil || len(errs) > 0 {
			t.Fatal(s.title("create"), errs)
		}
		if s.served.FromStorage != nil {
			if obj, err = s.served.FromStorage(obj); err != nil {
				t.Fatal(err)
			}
		}
		obj.SetUID("u")
		obj.SetResourceVersion("1")
		obj.SetGeneration(1)
		stored, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(stored, &s.stored); err != nil {
			t.Fatal(err)
		}
		s.stored["apiVersion"], s.stored["kind"] = s.manifest["apiVersion"], s.manifest["kind"]
		delete(s.stored, "status")
		if status, found := s.manifest["status"]; found {
			s.stored["status"] = status
		} else if status, found := statuses[s.manifest["kind"].(string)]; found {
			s.stored["status"] = status
		}
		out = append(out, s)
	}
	return out
}

// recorded maps titles of subjects to faults to errors, the latter as lines.
type recorded map[string]map[string][]string

const unknown = "panic"

func readRefusals(t *testing.T) recorded {
	t.Helper()
	f, err := os.Open("testdata/refusals.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out, messages, title, fault := recorded{}, map[string]string{}, "", ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "~\t"):
			number, message, _ := strings.Cut(line[2:], "\t")
			messages[number] = message
		case strings.HasPrefix(line, "== "):
			title = line[3:]
			out[title] = map[string][]string{}
		case line == "\t"+unknown:
			out[title][fault] = []string{unknown}
		case strings.HasPrefix(line, "\t"):
			parts := strings.Split(line[1:], "\t")
			out[title][fault] = append(out[title][fault], parts[0]+" "+parts[1]+": "+messages[parts[2]])
		default:
			fault = line
			out[title][fault] = nil
		}
	}
	return out
}

// lines are the distinct errors, sorted.
func lines(errs field.ErrorList) []string {
	set := map[string]bool{}
	for _, e := range errs {
		set[strings.ReplaceAll(fmt.Sprintf("%s %s: %s", e.Type, e.Field, e.Detail), "\n", `\n`)] = true
	}
	return slices.Sorted(maps.Keys(set))
}

func (r recorded) compare(t *testing.T, title, fault string, want []string, errs field.ErrorList) {
	t.Helper()
	if got := lines(errs); !slices.Equal(want, got) && !slices.Contains(want, unknown) {
		t.Errorf("%s: %s\n got %s\nwant %s", title, fault, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// TestRefusalsAreThoseOfUpstream takes every good manifest, adds each of its faults, and creates, updates and reports the
// status of the result.
func TestRefusalsAreThoseOfUpstream(t *testing.T) {
	t.Parallel()
	want := readRefusals(t)
	for _, s := range subjects(t) {
		t.Run(s.title(""), func(t *testing.T) {
			t.Parallel()
			want.creates(t, s)
			want.replaces(t, s)
		})
	}
}

func (r recorded) creates(t *testing.T, s *subject) {
	title := s.title("create")
	for _, m := range kindstest.Mutate(s.manifest) {
		if obj, errs := s.create(m.Object); obj != nil {
			r.compare(t, title, m.Name, r[title][m.Name], errs)
		}
	}
}

func (r recorded) replaces(t *testing.T, s *subject) {
	if s.kind.ValidateUpdate == nil {
		return
	}
	// Policies make an environment for each of their objects; their updates are judged as their creations are.
	slow := strings.HasSuffix(s.served.Kind, "AdmissionPolicy")
	bare := maps.Clone(s.stored)
	delete(bare, "status")
	for mode, stored := range map[string]map[string]any{"update": s.stored, "status": s.stored, "approval": s.stored, "fresh": bare} {
		title, subresource := s.title(mode), mode
		switch mode {
		case "update":
			subresource = ""
		case "fresh":
			subresource = "status"
		}
		if subresource != "" && (s.kind.Subresource(subresource) == nil || len(r[title]) == 0) {
			continue
		}
		for _, m := range kindstest.Mutate(s.stored) {
			want, listed := r[title][m.Name]
			if !listed && slow && mode == "update" {
				continue
			}
			errs, ok := s.replace(subresource, m.Object, stored)
			if !ok {
				continue
			}
			if mode == "update" && !listed {
				_, created := s.create(m.Object)
				want = lines(created)
			}
			r.compare(t, title, m.Name, want, errs)
		}
	}
}
