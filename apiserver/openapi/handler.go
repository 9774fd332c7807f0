// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"slices"
	"strconv"
	"strings"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	openapi_v3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"

	"kogge.dev/kogge/codec"
)

// Media types of the protobuf forms. Clients ask for them by an older name too, which has an "@" where the dot before the
// version is; it is not a valid media type, so that answers never bear it: clients could not read their header.
const (
	protoV2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	protoV3 = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
	jsonDoc = "application/json"
)

// ServeHTTP serves /openapi/v2, /openapi/v3 and what is below it.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case path == "/openapi/v2":
		s.serve(w, r, served{key: "v2", protobuf: protoV2, zipped: true, get: s.v2}, func(data []byte) ([]byte, error) {
			doc, err := openapi_v2.ParseDocument(data)
			if err != nil {
				return nil, err
			}
			return proto.Marshal(doc)
		})
	case path == "/openapi/v3":
		s.serve(w, r, served{key: "index", get: s.index}, nil)
	case strings.HasPrefix(path, "/openapi/v3/"):
		key := strings.TrimPrefix(path, "/openapi/v3/")
		if !slices.Contains(s.paths(), key) {
			http.NotFound(w, r)
			return
		}
		if asked := r.URL.Query().Get("hash"); asked != "" {
			current := s.hash(key)
			if asked != current {
				http.Redirect(w, r, r.URL.Path+"?hash="+current, http.StatusMovedPermanently)
				return
			}
			// The content of this address never changes.
			w.Header().Set("Cache-Control", "public, immutable")
			w.Header().Set("Expires", "Fri, 31 Dec 2100 00:00:00 GMT")
		}
		s.serve(w, r, served{key: "v3/" + key, protobuf: protoV3, get: func() (*encoded, error) { return s.v3(key) }}, func(data []byte) ([]byte, error) {
			doc, err := openapi_v3.ParseDocument(data)
			if err != nil {
				return nil, err
			}
			return proto.Marshal(doc)
		})
	default:
		http.NotFound(w, r)
	}
}

// served is a document by its key in the cache, with the media type of its protobuf form, if it has one, and what makes it.
type served struct {
	key, protobuf string
	// zipped documents are compressed for clients that take it.
	zipped bool
	get    func() (*encoded, error)
}

// serve answers with a document in JSON or, where there is one, in its protobuf form.
func (s *Service) serve(w http.ResponseWriter, r *http.Request, d served, convert func([]byte) ([]byte, error)) {
	h := w.Header()
	media, tag := jsonDoc, s.tag(d.key)
	if d.zipped {
		h.Add("Vary", "Accept-Encoding")
	}
	if convert != nil {
		h.Add("Vary", "Accept")
		older := strings.Replace(d.protobuf, ".v1.0+", "@v1.0+", 1)
		accepted, ok := codec.Media(r.Header.Get("Accept"), []string{jsonDoc, d.protobuf, older})
		if !ok {
			w.WriteHeader(http.StatusNotAcceptable)
			return
		}
		if accepted != jsonDoc {
			media, tag = d.protobuf, s.tag(protobufOf(tag))
		}
	}
	has := func() bool { return holds(r.Header.Get("If-None-Match"), tag) }
	var doc *encoded
	if tag == "" || !has() { // It need not be made for who has it.
		var err error
		if doc, err = s.document(d, media, convert); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if doc == nil {
			http.NotFound(w, r)
			return
		}
		tag = doc.etag
	}
	h.Set("ETag", tag)
	if doc == nil || has() {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	data := doc.data
	if d.zipped && zips(r.Header.Get("Accept-Encoding")) {
		if packed, err := s.cached("gzip/"+tag, func() (any, error) { return zipped(data) }); err == nil {
			h.Set("Content-Encoding", "gzip")
			data = packed.data
		}
	}
	h.Set("Content-Type", media)
	_, _ = w.Write(data) // A client that went away is no error of ours.
}

// document makes a document in the form of a media type, unless it is there; nil is one that is gone.
func (s *Service) document(d served, media string, convert func([]byte) ([]byte, error)) (*encoded, error) {
	doc, err := d.get()
	if err != nil || doc == nil || media == jsonDoc {
		return doc, err
	}
	json := doc.data
	return s.cached(protobufOf(doc.etag), func() (any, error) { return convert(json) })
}

// holds tells whether an If-None-Match header names a tag.
func holds(header, tag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		if part = strings.TrimPrefix(strings.TrimSpace(part), "W/"); part == tag || part == "*" {
			return true
		}
	}
	return false
}

// zips tells whether an Accept-Encoding header names gzip, with any quality but 0.
func zips(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, quality, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			_, value, _ := strings.Cut(quality, "=")
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return quality == "" || err == nil && q > 0
		}
	}
	return false
}

func zipped(data []byte) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// protobufOf is the key of the protobuf form of the document with a tag.
func protobufOf(tag string) string { return "protobuf/" + tag }
