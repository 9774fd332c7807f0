// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/catalog"
)

// namespace is where every namespaced seed goes.
const namespace = "ns"

// seed is a manifest that both servers are asked about, again and again with one fault more.
type seed struct {
	kind   *kinds.Kind
	served *kinds.Served
	// object is the manifest; status, if any, belongs to it.
	object map[string]any
	status any
	// fixture marks manifests that fill every field with a word or number of no meaning: both servers refuse them with a long
	// list, and faults add nothing.
	fixture bool
}

func (s *seed) title() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", s.object["apiVersion"], s.object["kind"], s.name()))
}

func (s *seed) metadata() map[string]any {
	meta, _ := s.object["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
		s.object["metadata"] = meta
	}
	return meta
}

func (s *seed) name() string {
	name, _ := s.metadata()["name"].(string)
	return name
}

// collection is the path that the seed is created at; item is its own.
func (s *seed) collection() string {
	path := "/apis/" + s.served.Group + "/" + s.served.Version
	if s.served.Group == "" {
		path = "/api/" + s.served.Version
	}
	if s.kind.Namespaced {
		path += "/namespaces/" + namespace
	}
	return path + "/" + s.kind.Resource
}

func (s *seed) item() string { return s.collection() + "/" + s.name() }

// can reports whether the resource, or a subresource of it, has a verb.
func (s *seed) can(verb, subresource string) bool {
	verbs := s.kind.Verbs
	if subresource != "" {
		sub := s.kind.Subresource(subresource)
		if sub == nil {
			return false
		}
		verbs = sub.Verbs
	} else if verbs == nil {
		verbs = kinds.StandardVerbs
	}
	return slices.Contains(verbs, verb)
}

// loadSeeds reads the manifests that the kinds' own tests use, those of this package, and the fixtures of k8s.io/api. For versions on
// request, the manifests are converted to them, and kinds that are served on request only have manifests of their own.
func (r *run) loadSeeds() ([]*seed, error) {
	statuses := map[string]any{}
	if err := readYAML(filepath.Join(r.Root, "kinds/catalog/testdata/status.yaml"), &statuses); err != nil {
		return nil, err
	}
	files := []string{filepath.Join(r.Root, "kinds/catalog/testdata/good.yaml")}
	for _, pattern := range []string{"kinds/core/testdata/manifests/*.yaml", "test/peers/differential/testdata/seeds/*.yaml"} {
		found, err := filepath.Glob(filepath.Join(r.Root, pattern))
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("seeds %s: %d files, %w", pattern, len(found), err)
		}
		files = append(files, found...)
	}
	if r.Requested != nil {
		files = append(files, filepath.Join(r.Root, "test/peers/differential/testdata/requested/seeds.yaml"))
	}
	var out []*seed
	for _, file := range files {
		documents, err := readDocuments(file)
		if err != nil {
			return nil, err
		}
		for _, object := range documents {
			s, err := newSeed(r.known, object)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			s.status = object["status"]
			if s.status == nil {
				s.status = statuses[s.served.Kind]
			}
			out = append(out, s)
		}
	}
	fixtures, err := loadFixtures(r.known, r.Fixtures)
	if err != nil || r.Requested == nil {
		return append(out, fixtures...), err
	}
	if out, err = requested(r.known, out); err != nil {
		return nil, err
	}
	byDefault := catalog.New()
	for _, s := range fixtures {
		if k, _ := byDefault.ByKind(s.served.GroupVersionKind); k == nil {
			out = append(out, s)
		}
	}
	return out, nil
}

// requested converts seeds to the versions that are served only on request.
func requested(known *catalog.Catalog, seeds []*seed) ([]*seed, error) {
	byDefault := catalog.New()
	var out []*seed
	for _, s := range seeds {
		for i := range s.kind.Served {
			to := &s.kind.Served[i]
			if k, _ := byDefault.ByKind(to.GroupVersionKind); k != nil {
				continue
			}
			object, err := convert(s, to)
			if err != nil {
				return nil, fmt.Errorf("%s as %s: %w", s.title(), to.Version, err)
			}
			fresh, err := newSeed(known, object)
			if err != nil {
				return nil, err
			}
			fresh.status = object["status"]
			delete(object, "status")
			out = append(out, fresh)
		}
	}
	return out, nil
}

// convert returns a seed's manifest, with its status, at another version, without what it leaves empty.
func convert(s *seed, to *kinds.Served) (map[string]any, error) {
	object := maps.Clone(s.object)
	if s.status != nil {
		object["status"] = s.status
	}
	converted := s.served.New()
	if err := json.Unmarshal(encode(object), converted); err != nil {
		return nil, err
	}
	if to.FromStorage != nil {
		var err error
		if converted, err = to.FromStorage(converted); err != nil {
			return nil, err
		}
	}
	var out map[string]any
	if err := json.Unmarshal(encode(converted), &out); err != nil {
		return nil, err
	}
	if status, _ := out["status"].(map[string]any); len(status) == 0 {
		delete(out, "status")
	}
	return out, nil
}

// loadFixtures reads the manifests of every served kind from the folder testdata/HEAD of k8s.io/api.
func loadFixtures(known *catalog.Catalog, dir string) ([]*seed, error) {
	var out []*seed
	for _, kind := range known.All() {
		for _, served := range kind.Served {
			group := served.Group
			if group == "" {
				group = "core"
			}
			file := filepath.Join(dir, group+"."+served.Version+"."+served.Kind+".yaml")
			if _, err := os.Stat(file); err != nil {
				continue // kinds of other modules: definitions and API services
			}
			documents, err := readDocuments(file)
			if err != nil {
				return nil, err
			}
			s, err := newSeed(known, documents[0])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			meta := s.metadata()
			for _, own := range []string{"managedFields", "resourceVersion", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "creationTimestamp"} {
				delete(meta, own)
			}
			meta["name"] = "fixture"
			s.status, s.fixture = s.object["status"], true
			out = append(out, s)
		}
	}
	if len(out) < 50 {
		return nil, fmt.Errorf("only %d fixtures in %s", len(out), dir)
	}
	return out, nil
}

func newSeed(known *catalog.Catalog, object map[string]any) (*seed, error) {
	version, _ := object["apiVersion"].(string)
	name, _ := object["kind"].(string)
	gv, err := schema.ParseGroupVersion(version)
	if err != nil {
		return nil, err
	}
	s := &seed{object: object}
	if s.kind, s.served = known.ByKind(gv.WithKind(name)); s.kind == nil {
		return nil, fmt.Errorf("%s %s is not served", version, name)
	}
	if meta := s.metadata(); s.kind.Namespaced {
		meta["namespace"] = namespace
	} else {
		delete(meta, "namespace")
	}
	return s, nil
}

func readYAML(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func readDocuments(file string) ([]map[string]any, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []map[string]any
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		object := map[string]any{}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if len(object) > 0 {
			out = append(out, object)
		}
	}
	return out, nil
}
