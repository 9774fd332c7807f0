// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/codec"
)

// Front is how the server around writes answers. All fields are required.
type Front struct {
	// Address is what clients outside should connect to.
	Address func() string
	// Send answers with a document in the format that was accepted; the media type may be set before.
	Send func(w http.ResponseWriter, r *http.Request, a codec.Accepted, body []byte)
	// Refuse answers a client that accepts no form of a document.
	Refuse func(w http.ResponseWriter, r *http.Request)
	// Fail answers with an error.
	Fail func(w http.ResponseWriter, r *http.Request, err error)
}

// Handler serves /api, /apis and what is below them but for resources, whatever the method.
func (r *Registry) Handler(front Front) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s := r.current.Load()
		parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
		switch {
		case parts[0] == "api" && len(parts) == 1:
			s.serveRoot(w, req, front, true, func() runtime.Object { return coreVersions(s, front.Address()) })
		case parts[0] == "apis" && len(parts) == 1:
			s.serveRoot(w, req, front, false, func() runtime.Object { return groupList(s) })
		case parts[0] == "api" && len(parts) == 2:
			s.serveVersion(w, req, front, "", parts[1])
		case parts[0] == "apis" && len(parts) == 2:
			s.serveGroup(w, req, front, parts[1])
		case parts[0] == "apis" && len(parts) == 3:
			s.serveVersion(w, req, front, parts[1], parts[2])
		default:
			http.NotFound(w, req)
		}
	})
}

// serveRoot answers /api and /apis, aggregated or not.
func (s *snapshot) serveRoot(w http.ResponseWriter, req *http.Request, front Front, core bool, legacy func() runtime.Object) {
	a, ok := codec.Accept(req.Header.Get("Accept"), codec.Formats, codec.DiscoveryProjection)
	if !ok {
		front.Refuse(w, req)
		return
	}
	if a.As == "" {
		front.write(w, req, a, legacy())
		return
	}
	key := "groups/" + a.GroupVersion.Version
	if core {
		key = "core/" + a.GroupVersion.Version
	}
	d, err := s.doc(key, func() (any, error) { return s.aggregated(core, a.GroupVersion.Version), nil })
	if err != nil {
		front.Fail(w, req, err)
		return
	}
	tag := `"` + d.etag + `"` // The same for every format.
	h := w.Header()
	h.Set("Vary", "Accept")
	h.Set("ETag", tag)
	h.Set("Cache-Control", "public")
	if req.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	data := d.data
	if a.Format != codec.JSON {
		list := s.aggregated(core, a.GroupVersion.Version)
		if data, err = codec.Marshal(&list, a.Format); err != nil {
			front.Fail(w, req, err)
			return
		}
	}
	h.Set("Content-Type", string(a.Format)+";g=apidiscovery.k8s.io;v="+a.GroupVersion.Version+";as=APIGroupDiscoveryList")
	front.Send(w, req, a, data)
}

func coreVersions(s *snapshot, address string) runtime.Object {
	out := &metav1.APIVersions{ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: address}}}
	for _, g := range s.core {
		for _, v := range g.Discovery.Versions {
			out.Versions = append(out.Versions, v.Version)
		}
	}
	out.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "APIVersions"})
	// The document of /api says kind but not apiVersion.
	out.APIVersion = ""
	return out
}

func groupList(s *snapshot) runtime.Object {
	out := &metav1.APIGroupList{Groups: []metav1.APIGroup{}}
	for _, g := range s.groups {
		out.Groups = append(out.Groups, legacyGroup(&g.Discovery))
	}
	out.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "APIGroupList"})
	return out
}

func (s *snapshot) serveGroup(w http.ResponseWriter, req *http.Request, front Front, name string) {
	g := s.group(name)
	if g == nil || name == "" {
		http.NotFound(w, req)
		return
	}
	out := legacyGroup(g)
	out.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "APIGroup"})
	front.negotiate(w, req, &out)
}

func (s *snapshot) serveVersion(w http.ResponseWriter, req *http.Request, front Front, group, version string) {
	if g := s.group(group); g != nil {
		for i := range g.Versions {
			if g.Versions[i].Version == version {
				out := s.legacyResources(group, &g.Versions[i])
				front.negotiate(w, req, &out)
				return
			}
		}
	}
	http.NotFound(w, req)
}

func (f Front) negotiate(w http.ResponseWriter, req *http.Request, obj runtime.Object) {
	a, ok := codec.Accept(req.Header.Get("Accept"), codec.Formats, codec.Unprojected)
	if !ok {
		f.Refuse(w, req)
		return
	}
	f.write(w, req, a, obj)
}

func (f Front) write(w http.ResponseWriter, req *http.Request, a codec.Accepted, obj runtime.Object) {
	data, err := codec.Marshal(obj, a.Format)
	if err != nil {
		f.Fail(w, req, err)
		return
	}
	f.Send(w, req, a, data)
}
