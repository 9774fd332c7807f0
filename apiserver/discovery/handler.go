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

// Handler serves /api, /apis and what is below them but for resources. address is what clients outside should connect to.
func (r *Registry) Handler(address func() string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			http.Error(w, "405: Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		s := r.current.Load()
		parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
		switch {
		case parts[0] == "api" && len(parts) == 1:
			s.serveRoot(w, req, true, func() runtime.Object { return coreVersions(s, address()) })
		case parts[0] == "apis" && len(parts) == 1:
			s.serveRoot(w, req, false, func() runtime.Object { return groupList(s) })
		case parts[0] == "api" && len(parts) == 2:
			s.serveVersion(w, req, "", parts[1])
		case parts[0] == "apis" && len(parts) == 2:
			s.serveGroup(w, req, parts[1])
		case parts[0] == "apis" && len(parts) == 3:
			s.serveVersion(w, req, parts[1], parts[2])
		default:
			http.NotFound(w, req)
		}
	})
}

// serveRoot answers /api and /apis, aggregated or not.
func (s *snapshot) serveRoot(w http.ResponseWriter, req *http.Request, core bool, legacy func() runtime.Object) {
	w.Header().Set("Vary", "Accept")
	a, ok := codec.Accept(req.Header.Get("Accept"), codec.Formats, codec.DiscoveryProjection)
	if !ok {
		http.Error(w, "406: Not Acceptable", http.StatusNotAcceptable)
		return
	}
	if a.As == "" || a.Format != codec.JSON {
		s.write(w, req, a.Format, legacy())
		return
	}
	key := "groups/" + a.GroupVersion.Version
	if core {
		key = "core/" + a.GroupVersion.Version
	}
	d, err := s.doc(key, func() (any, error) { return s.aggregated(core, a.GroupVersion.Version), nil })
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("ETag", `"`+d.etag+`"`)
	h.Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v="+a.GroupVersion.Version+";as=APIGroupDiscoveryList")
	h.Set("Cache-Control", "public")
	if strings.Trim(req.Header.Get("If-None-Match"), `"`) == d.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(d.data) // A client that went away is no error of ours.
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

func (s *snapshot) serveGroup(w http.ResponseWriter, req *http.Request, name string) {
	g := s.group(name)
	if g == nil || name == "" {
		http.NotFound(w, req)
		return
	}
	out := legacyGroup(g)
	out.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "APIGroup"})
	s.negotiate(w, req, &out)
}

func (s *snapshot) serveVersion(w http.ResponseWriter, req *http.Request, group, version string) {
	if g := s.group(group); g != nil {
		for i := range g.Versions {
			if g.Versions[i].Version == version {
				out := s.legacyResources(group, &g.Versions[i])
				s.negotiate(w, req, &out)
				return
			}
		}
	}
	http.NotFound(w, req)
}

func (s *snapshot) negotiate(w http.ResponseWriter, req *http.Request, obj runtime.Object) {
	a, ok := codec.Accept(req.Header.Get("Accept"), codec.Formats, nil)
	if !ok {
		http.Error(w, "406: Not Acceptable", http.StatusNotAcceptable)
		return
	}
	s.write(w, req, a.Format, obj)
}

func (s *snapshot) write(w http.ResponseWriter, _ *http.Request, format codec.Format, obj runtime.Object) {
	data, err := codec.Marshal(obj, format)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", string(format))
	_, _ = w.Write(data) // A client that went away is no error of ours.
}
