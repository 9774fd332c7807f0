// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/request"
)

// parsed is a request's Info with what only the HTTP front needs.
type parsed struct {
	request.Info
	// rest of the path after the subresource, for proxies.
	rest string
	// named is set when the path names an object; Name may also come from a field selector.
	named bool
	// viaPath is set for the old /watch/ paths.
	viaPath bool
	// applies is set for server-side apply.
	applies bool
	// served is set when this server knows the resource: only then may its names become labels of metrics.
	served bool
}

// parseRequest reads method, path and query as upstream does. ok is false for paths below an API version that mean nothing.
func parseRequest(method string, u *url.URL) (p parsed, ok bool) {
	p.Path, p.Verb = u.Path, strings.ToLower(method)
	parts := splitPath(u.Path)
	if len(parts) < 3 {
		return p, true
	}
	switch parts[0] {
	case "api":
		parts = parts[1:]
	case "apis":
		if len(parts) < 4 {
			return p, true
		}
		p.Group = parts[1]
		parts = parts[2:]
	default:
		return p, true
	}
	p.IsResource, p.Version = true, parts[0]
	parts = parts[1:]
	if parts[0] == "watch" || parts[0] == "proxy" {
		if len(parts) < 2 {
			return p, false
		}
		p.Verb, p.viaPath = parts[0], true
		parts = parts[1:]
	} else {
		p.Verb = resourceVerb(method)
	}
	if parts[0] == "namespaces" && len(parts) > 1 {
		p.Namespace = parts[1]
		if len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
			parts = parts[2:]
		}
	}
	p.Resource = parts[0]
	if len(parts) >= 2 {
		p.Name, p.named = parts[1], true
	}
	if len(parts) >= 3 && p.Verb != "proxy" {
		p.Subresource = parts[2]
		p.rest = restOf(u.Path, parts[3:])
	}
	p.refine(u.Query())
	return p, true
}

// restOf is the path after the subresource, with its slashes.
func restOf(path string, parts []string) string {
	out := ""
	if len(parts) > 0 {
		out = "/" + strings.Join(parts, "/")
	}
	if strings.HasSuffix(path, "/") && !strings.HasSuffix(out, "/") {
		out += "/"
	}
	return out
}

// refine tells list, watch and deletecollection from get and delete.
func (p *parsed) refine(query url.Values) {
	if p.Name == "" && p.Verb == "get" {
		p.Verb = "list"
		if watch, set := query["watch"]; set && truthy(watch[0]) {
			p.Verb = "watch"
		}
		p.Name = selectedName(query.Get("fieldSelector"))
	}
	if p.Name == "" && p.Verb == "delete" {
		p.Verb = "deletecollection"
	}
	if !p.viaPath && slices.Contains([]string{"list", "watch", "deletecollection"}, p.Verb) {
		p.FieldSelector, p.LabelSelector = query.Get("fieldSelector"), query.Get("labelSelector")
	}
}

// selectedName returns the one object that a list's field selector leaves, or nothing: who may read it may list it so.
func selectedName(selector string) string {
	sel, err := fields.ParseSelector(selector)
	if err != nil {
		return ""
	}
	if name, ok := sel.RequiresExactMatch("metadata.name"); ok && len(content.IsPathSegmentName(name)) == 0 {
		return name
	}
	return ""
}

func truthy(v string) bool { return !slices.Contains([]string{"false", "0"}, strings.ToLower(v)) }

func resourceVerb(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodGet, http.MethodHead:
		return "get"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	default:
		return ""
	}
}

func splitPath(path string) []string {
	path = strings.Trim(path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

func (p *parsed) gvr() schema.GroupVersionResource { return p.GroupVersionResource }
