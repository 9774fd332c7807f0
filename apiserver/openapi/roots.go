// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package openapi

import "slices"

const metaModels = "io.k8s.apimachinery.pkg.apis.meta.v1."

// root describes one path that tells of the server instead of objects: discovery, the version, the keys of tokens.
type root struct {
	// document is the key of the v3 document that it stands in; the path is the same between slashes.
	document      string
	id, tag, text string
	// model of the answer; empty for a text.
	model string
	media []string
	// free is set where v2 says nothing of what is taken.
	free bool
}

func (r *root) path() string { return "/" + r.document + "/" }

// Media types of discovery.
var discoveryMedia = []string{"application/json", "application/vnd.kubernetes.protobuf", "application/yaml"}

// fixedRoots are those of every server.
var fixedRoots = []root{
	{document: "version", id: "getCodeVersion", tag: "version", text: "version of this server", model: "io.k8s.apimachinery.pkg.version.Info", media: []string{"application/json"}},
	{document: "api", id: "getCoreAPIVersions", tag: "core", text: "versions of the core group", model: metaModels + "APIVersions", media: discoveryMedia},
	{document: "apis", id: "getAPIVersions", tag: "apis", text: "groups and their versions", model: metaModels + "APIGroupList", media: discoveryMedia},
	{
		document: ".well-known/openid-configuration", id: "getServiceAccountIssuerOpenIDConfiguration", tag: "WellKnown",
		text: "where the keys of the issuer of service account tokens are", media: []string{"application/json"}, free: true,
	},
	{
		document: "openid/v1/jwks", id: "getServiceAccountIssuerOpenIDKeyset", tag: "openid",
		text: "keys that verify service account tokens", media: []string{"application/jwk-set+json"}, free: true,
	},
}

// roots are the paths of fixedRoots, and those of the built-in groups and their versions.
func (s *Service) roots() []root {
	out := slices.Clone(fixedRoots)
	known := map[string]bool{}
	add := func(r root) {
		if !known[r.document] {
			known[r.document] = true
			out = append(out, r)
		}
	}
	for _, k := range s.kinds {
		for i := range k.Served {
			gv := k.Served[i].GroupVersion()
			add(root{document: gvPath(gv), id: "get" + idPart(gv) + "APIResources", tag: tag(gv), text: "resources of this version", model: metaModels + "APIResourceList", media: discoveryMedia})
			if gv.Group != "" {
				add(root{
					document: "apis/" + gv.Group, id: "get" + title(friendly(gv.Group)) + "APIGroup", tag: friendly(gv.Group), text: "versions of this group",
					model: metaModels + "APIGroup", media: discoveryMedia,
				})
			}
		}
	}
	return out
}

// addRoot adds a root's path.
func (b *builder) addRoot(r *root) {
	content := object{}
	for _, m := range r.media {
		answer := object{"type": "string"}
		if r.model != "" {
			answer = b.refTo(r.model)
		}
		content[m] = object{"schema": answer}
	}
	b.doc.Paths[r.path()] = object{"get": object{
		"description": r.text, "operationId": r.id, "tags": []string{r.tag},
		"responses": object{"200": object{"description": "OK", "content": content}, "401": object{"description": "Unauthorized"}},
	}}
}

// toV2 corrects what v2 says that a root takes: what it answers with, or nothing.
func (r *root) toV2(item any) {
	tree, _ := item.(map[string]any)
	get, ok := tree["get"].(map[string]any)
	switch {
	case !ok:
	case r.free:
		delete(get, "consumes")
	default:
		get["consumes"] = r.media
	}
}
