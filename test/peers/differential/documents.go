// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// documents compares what the servers say about themselves: discovery, versions, health, OpenAPI.
func (r *run) documents(ctx context.Context) error {
	if r.Only != nil && !r.Only.MatchString("documents") {
		return nil
	}
	paths := []call{
		{path: "/"},
		{path: "/api"},
		{path: "/apis"},
		{path: "/version"},
		{path: "/healthz?verbose"},
		{path: "/livez?verbose"},
		{path: "/readyz?verbose"},
		{path: "/.well-known/openid-configuration"},
		{path: "/api", accept: "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"},
		{path: "/apis", accept: "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"},
		{path: "/apis", accept: "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"},
	}
	for _, c := range paths {
		c.method = "GET"
		if _, _, err := r.both(ctx, "document "+c.path, c.path, &c); err != nil {
			return err
		}
	}
	if err := r.openapi(ctx, "/openapi/v2"); err != nil {
		return err
	}
	_, index, err := r.both(ctx, "document /openapi/v3", "/openapi/v3", &call{method: "GET", path: "/openapi/v3"})
	if err != nil {
		return err
	}
	body, _ := index.body.(map[string]any)
	documents, _ := body["paths"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		if strings.HasPrefix(name, "apis/") || strings.HasPrefix(name, "api") {
			if _, _, err := r.both(ctx, "document /"+name, "/"+name, &call{method: "GET", path: "/" + name}); err != nil {
				return err
			}
		}
		if err := r.openapi(ctx, "/openapi/v3/"+name); err != nil {
			return err
		}
	}
	return nil
}

// openapi compares an OpenAPI document. Documents of groups that only one side serves differ as a whole, which the index says.
func (r *run) openapi(ctx context.Context, path string) error {
	c := &call{method: "GET", path: path}
	ours, err := r.ours.ask(ctx, c)
	if err != nil {
		return err
	}
	upstream, err := r.upstream.ask(ctx, c)
	if err != nil {
		return err
	}
	r.report.Requests++
	if !ours.refused() && !upstream.refused() {
		ours.body, upstream.body = unfold(ours.body), unfold(upstream.body)
	}
	for _, d := range compare(c, ours, upstream) {
		example := path + " " + d.where
		d.where = place(d.where)
		r.report.add("document "+path, example, c, d)
	}
	return nil
}
