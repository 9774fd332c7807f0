// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package openapi publishes the schemas of everything that is served, in OpenAPI v2 and v3, and gives server-side apply its types.
//
// The schemas of built-in types are data (definitions.json.gz, and types.json.gz for server-side apply; made by tools/openapi), read on first use. Paths and operations are
// made from the descriptors of the kinds. Dynamic sources (custom resources, aggregated servers) add whole documents per group-version.
package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"kogge.dev/kogge/kinds"
)

//go:embed definitions.json.gz
var packed []byte

// definitions is the content of the data file.
type definitions struct {
	// Schemas by model name, in v3 form.
	Schemas map[string]json.RawMessage `json:"schemas"`
	// V2 holds the v2 form of the few whose forms differ by more than references.
	V2 map[string]json.RawMessage `json:"v2"`
}

// Document is one OpenAPI document: of one group-version in v3, of a whole source in v2.
type Document struct {
	Paths   map[string]any
	Schemas map[string]json.RawMessage
	// Customs are resources whose paths are to be added.
	Customs []Custom `json:",omitempty"`
}

// Source is a document that is made when somebody asks for it.
type Source struct {
	// Version changes whenever the document does: clients keep documents by it.
	Version string
	// Make makes the document, for the caller alone.
	Make func() Document
}

// Made is the source of a document that is there.
func Made(d Document) (Source, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return Source{}, fmt.Errorf("name the content of an OpenAPI document: %w", err)
	}
	return Source{Version: fmt.Sprintf("%X", sha512.Sum512(text)), Make: func() Document { return d }}, nil
}

// Service serves the documents. It is safe for concurrent use.
type Service struct {
	kinds []*kinds.Kind

	mu sync.Mutex
	// dynamic documents by where they come from, then by path ("apis/stable.example.com/v1").
	dynamic map[string]map[string]Source
	// cache of encoded documents by request, without those that a change touched. generation counts the changes, so that a document that
	// was begun before one is not kept.
	cache      map[string]*encoded
	generation int
	// sweeping is set while a timer will look for documents that nobody asks for.
	sweeping bool
	names    map[schema.GroupVersionKind]string
}

// idle is how long a document is kept that nobody asks for; it may be twice as long. Those of many definitions are large, and clients keep them themselves.
const idle = 5 * time.Minute

// encoded is a document ready to send.
type encoded struct {
	// data is nil where nobody has asked for long: then the tag is all that is known.
	data []byte
	etag string
	// asked is set by whoever asks, and taken back by sweep. Service.mu guards it.
	asked bool
}

// New makes a service for the built-in kinds.
func New(all []*kinds.Kind) *Service {
	return &Service{kinds: all, dynamic: map[string]map[string]Source{}, cache: map[string]*encoded{}}
}

// load and converter are what the embedded data says, read once per process: it is the same for every server.
var (
	load      = sync.OnceValues(readDefinitions)
	converter = sync.OnceValues(readTypes)
	packedSum = sync.OnceValue(func() [sha512.Size]byte { return sha512.Sum512(packed) })
)

func readDefinitions() (*definitions, error) {
	defs := &definitions{}
	return defs, unpack(packed, defs)
}

func unpack(packed []byte, into any) error {
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	data, err := io.ReadAll(zip)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// TypeConverter returns the converter of all built-in types for server-side apply.
func (s *Service) TypeConverter() (managedfields.TypeConverter, error) { return converter() }

// Schema returns the v3 schema of a built-in kind, for explaining and validating; ok is false when there is none.
func (s *Service) Schema(gvk schema.GroupVersionKind) (name string, raw json.RawMessage, ok bool) {
	defs, err := load()
	if err != nil {
		return "", nil, false
	}
	name, ok = s.modelNames(defs)[gvk]
	return name, defs.Schemas[name], ok
}

// Schemas returns all built-in schemas by model name. The map must not be changed.
func (s *Service) Schemas() (map[string]json.RawMessage, error) {
	defs, err := load()
	if err != nil {
		return nil, err
	}
	return defs.Schemas, nil
}

// Set replaces all documents that come from somewhere; the keys are paths such as "apis/stable.example.com/v1".
func (s *Service) Set(from string, documents map[string]Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.dynamic[from]
	if len(documents) == 0 {
		delete(s.dynamic, from)
	} else {
		s.dynamic[from] = documents
	}
	maps.DeleteFunc(s.cache, func(key string, _ *encoded) bool {
		path, one := strings.CutPrefix(key, "v3/")
		now, is := documents[path]
		old, was := before[path]
		return !one || is != was || now.Version != old.Version // what is not of one path is of all
	})
	s.generation++
}

const kindExtension = "x-kubernetes-group-version-kind"

// modelNames finds the model of each kind.
func (s *Service) modelNames(defs *definitions) map[schema.GroupVersionKind]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names != nil {
		return s.names
	}
	names := map[schema.GroupVersionKind]string{}
	for name, raw := range defs.Schemas {
		if !bytes.Contains(raw, []byte(kindExtension)) {
			continue
		}
		var model struct {
			Kinds []schema.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
		}
		if json.Unmarshal(raw, &model) == nil {
			for _, gvk := range model.Kinds {
				names[gvk] = name
			}
		}
	}
	s.names = names
	return names
}

// gvPath is the key of a group-version's document.
func gvPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.Group + "/" + gv.Version
}

// paths lists the keys of all v3 documents.
func (s *Service) paths() []string {
	seen := map[string]bool{}
	for _, r := range s.roots() {
		seen[r.document] = true
	}
	s.mu.Lock()
	for _, docs := range s.dynamic {
		for path := range docs {
			seen[path] = true
		}
	}
	s.mu.Unlock()
	return slices.Sorted(maps.Keys(seen))
}

// build makes the v3 document of a path.
func (s *Service) build(path string) (*Document, error) {
	defs, err := load()
	if err != nil {
		return nil, err
	}
	doc := &Document{Paths: map[string]any{}, Schemas: map[string]json.RawMessage{}}
	b := &builder{names: s.modelNames(defs), defs: defs, doc: doc, ref: "#/components/schemas/"}
	known := false
	for _, r := range s.roots() {
		if r.document == path {
			known = true
			b.addRoot(&r)
		}
	}
	for _, k := range s.kinds {
		for i := range k.Served {
			if gvPath(k.Served[i].GroupVersion()) == path {
				b.addKind(k, &k.Served[i])
			}
		}
	}
	s.mu.Lock()
	var sources []Source
	for _, docs := range s.dynamic {
		if one, ok := docs[path]; ok {
			sources = append(sources, one)
		}
	}
	s.mu.Unlock()
	for _, source := range sources {
		known = true
		one := source.Make()
		if err := b.wantPaths(one.Paths); err != nil {
			return nil, fmt.Errorf("paths of %s: %w", path, err)
		}
		maps.Copy(doc.Paths, one.Paths)
		maps.Copy(doc.Schemas, one.Schemas)
		for i := range one.Customs {
			b.addCustom(&one.Customs[i])
		}
	}
	if !known {
		return nil, nil // No such document.
	}
	b.close()
	return doc, nil
}

// v3 returns the encoded v3 document of a path; nil when there is none.
func (s *Service) v3(path string) (*encoded, error) {
	return s.cached("v3/"+path, func() (any, error) {
		doc, err := s.build(path)
		if err != nil || doc == nil {
			return nil, err
		}
		if err := s.ownKinds(doc, path); err != nil {
			return nil, err
		}
		components := map[string]any{}
		if len(doc.Schemas) > 0 {
			components["schemas"] = doc.Schemas
		}
		return map[string]any{
			"openapi": "3.0.0", "info": map[string]any{"title": "Kubernetes", "version": "1.36"}, "paths": doc.Paths, "components": components,
		}, nil
	})
}

// ownKinds leaves of the kinds that every group-version has, DeleteOptions and WatchEvent, those of the core group and of the document's
// own group-version, as in upstream's documents of built-in kinds. v2 has them all.
func (s *Service) ownKinds(doc *Document, path string) error {
	if !slices.ContainsFunc(s.kinds, func(k *kinds.Kind) bool {
		return slices.ContainsFunc(k.Served, func(served kinds.Served) bool { return gvPath(served.GroupVersion()) == path })
	}) {
		return nil
	}
	for _, name := range []string{deleteModel, watchEventModel} {
		raw, ok := doc.Schemas[name]
		if !ok {
			continue
		}
		var model map[string]json.RawMessage
		if err := json.Unmarshal(raw, &model); err != nil {
			return fmt.Errorf("schema %s: %w", name, err)
		}
		var all []kindName
		if err := json.Unmarshal(model[kindExtension], &all); err != nil {
			return fmt.Errorf("schema %s: %w", name, err)
		}
		own := slices.DeleteFunc(all, func(k kindName) bool {
			gv := schema.GroupVersion{Group: k.Group, Version: k.Version}
			return gv != schema.GroupVersion{Version: "v1"} && gvPath(gv) != path
		})
		var err error
		if model[kindExtension], err = json.Marshal(own); err != nil {
			return err
		}
		if doc.Schemas[name], err = json.Marshal(model); err != nil {
			return err
		}
	}
	return nil
}

// kindName is an element of the kinds that a schema is of.
type kindName struct {
	Group   string `json:"group"`
	Kind    string `json:"kind"`
	Version string `json:"version"`
}

// index is the list of v3 documents with the hashes that let clients keep them.
func (s *Service) index() (*encoded, error) {
	return s.cached("index", func() (any, error) {
		type entry struct {
			URL string `json:"serverRelativeURL"`
		}
		entries := map[string]entry{}
		for _, path := range s.paths() {
			entries[path] = entry{URL: "/openapi/v3/" + path + "?hash=" + s.hash(path)}
		}
		return map[string]any{"paths": entries}, nil
	})
}

// form counts the forms that this package gave to documents: what it makes of the same kinds has changed where it has.
const form = 3

// hash names the content of a v3 document without building it: it depends on the data file, on the kinds, on form, and on dynamic documents.
func (s *Service) hash(path string) string {
	h := sha512.New()
	sum := packedSum()
	h.Write(sum[:])
	fmt.Fprintln(h, form, path)
	for _, k := range s.kinds {
		for i := range k.Served {
			if gvPath(k.Served[i].GroupVersion()) == path {
				fmt.Fprintln(h, k.Resource, k.Verbs, len(k.Subresources))
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, from := range slices.Sorted(maps.Keys(s.dynamic)) {
		if one, ok := s.dynamic[from][path]; ok {
			fmt.Fprintln(h, from, one.Version)
		}
	}
	return fmt.Sprintf("%X", h.Sum(nil))
}

// cached returns the document of a key, which build makes when it is not there.
func (s *Service) cached(key string, build func() (any, error)) (*encoded, error) {
	s.mu.Lock()
	have, generation := s.cache[key], s.generation
	if have != nil && have.data != nil {
		have.asked = true
		s.mu.Unlock()
		return have, nil
	}
	s.mu.Unlock()
	value, err := build()
	if err != nil || value == nil {
		return nil, err
	}
	data, ok := value.([]byte)
	if !ok {
		if data, err = json.Marshal(value); err != nil {
			return nil, err
		}
	}
	out := &encoded{data: data, etag: fmt.Sprintf(`"%X"`, sha512.Sum512(data)), asked: true}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation == generation {
		s.cache[key] = out
		s.sweepLaterLocked()
	}
	return out, nil
}

// tag returns the entity tag of a document that was made since the last change; empty when none was.
func (s *Service) tag(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.cache[key]; have != nil {
		return have.etag
	}
	return ""
}

func (s *Service) sweepLaterLocked() {
	if !s.sweeping {
		s.sweeping = true
		time.AfterFunc(idle, s.sweep)
	}
}

// sweep forgets the documents that nobody has asked for since it was here last, but for their tags.
func (s *Service) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweeping = false
	for key, doc := range s.cache {
		switch {
		case doc.data == nil:
		case doc.asked:
			doc.asked = false
			s.sweepLaterLocked()
		default:
			s.cache[key] = &encoded{etag: doc.etag} // Whoever has the document goes on with it.
		}
	}
}

// v2 makes the one v2 document: all paths and all schemas.
func (s *Service) v2() (*encoded, error) {
	return s.cached("v2", func() (any, error) {
		all := map[string]any{}
		schemas := map[string]any{}
		defs, err := load()
		if err != nil {
			return nil, err
		}
		for _, path := range s.paths() {
			doc, err := s.build(path)
			if err != nil {
				return nil, err
			}
			if doc == nil {
				continue
			}
			for p, item := range doc.Paths {
				if all[p], err = pathToV2(item); err != nil {
					return nil, err
				}
			}
			if err := addSchemasV2(schemas, doc.Schemas, defs.V2); err != nil {
				return nil, err
			}
		}
		for _, r := range s.roots() {
			r.toV2(all[r.path()])
		}
		return map[string]any{
			"swagger": "2.0", "info": map[string]any{"title": "Kubernetes", "version": "1.36"}, "paths": all, "definitions": schemas,
		}, nil
	})
}

// isV3Ref tells references to v3 schemas.
func isV3Ref(ref string) (name string, ok bool) {
	return strings.CutPrefix(ref, "#/components/schemas/")
}
