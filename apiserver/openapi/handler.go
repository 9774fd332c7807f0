// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"net/http"
	"slices"
	"strings"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	openapi_v3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
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
	path := strings.Trim(r.URL.Path, "/")
	switch {
	case path == "openapi/v2":
		s.serve(w, r, served{"v2", protoV2, s.v2}, func(data []byte) ([]byte, error) {
			doc, err := openapi_v2.ParseDocument(data)
			if err != nil {
				return nil, err
			}
			return proto.Marshal(doc)
		})
	case path == "openapi/v3":
		s.serve(w, r, served{"index", "", s.index}, nil)
	case strings.HasPrefix(path, "openapi/v3/"):
		key := strings.TrimPrefix(path, "openapi/v3/")
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
		s.serve(w, r, served{"v3/" + key, protoV3, func() (*encoded, error) { return s.v3(key) }}, func(data []byte) ([]byte, error) {
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
	get           func() (*encoded, error)
}

// serve answers with a document in JSON or, where there is one, in its protobuf form.
func (s *Service) serve(w http.ResponseWriter, r *http.Request, d served, convert func([]byte) ([]byte, error)) {
	media, tag := jsonDoc, s.tag(d.key)
	if convert != nil && wants(r.Header.Get("Accept"), d.protobuf) {
		media, tag = d.protobuf, s.tag(protobufOf(tag))
	}
	h := w.Header()
	h.Add("Vary", "Accept")
	asked := r.Header.Get("If-None-Match")
	if tag == "" || tag != asked { // It need not be made for who has it.
		doc, err := d.get()
		if err == nil && doc != nil && media == d.protobuf {
			json := doc.data
			doc, err = s.cached(protobufOf(doc.etag), func() (any, error) { return convert(json) })
		}
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		case doc == nil:
			http.NotFound(w, r)
			return
		}
		if tag = doc.etag; tag != asked {
			h.Set("Content-Type", media)
			h.Set("ETag", tag)
			_, _ = w.Write(doc.data) // A client that went away is no error of ours.
			return
		}
	}
	h.Set("Content-Type", media)
	h.Set("ETag", tag)
	w.WriteHeader(http.StatusNotModified)
}

// protobufOf is the key of the protobuf form of the document with a tag.
func protobufOf(tag string) string { return "protobuf/" + tag }

// wants tells whether the client names the protobuf form before JSON.
func wants(accept, protobuf string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		media, _, _ := strings.Cut(strings.TrimSpace(part), ";")
		switch strings.Replace(media, "@v1.0+", ".v1.0+", 1) {
		case protobuf:
			return true
		case jsonDoc, "*/*":
			return false
		}
	}
	return false
}
