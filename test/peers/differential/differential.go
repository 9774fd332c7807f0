// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package differential sends the same requests to upstream's API server and to kogge's and compares the answers field by
// field: stored objects, refusals with all their causes, warnings, tables, discovery and OpenAPI documents.
//
// The requests are made of manifests (seeds) that are good, and of the same ones with one fault each. They are the same in
// every run. What differs is grouped by place and wording; each kind of difference is either listed, with the reason,
// in allowed.yaml, or fails the run.
package differential

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sync/errgroup"

	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/test/peers/access"
)

// upstreamName is what errors call the other side.
const upstreamName = "upstream"

// serviceCIDR of both servers.
const serviceCIDR = "10.96.0.0/16"

// Config of a run. Ours, Upstream, Root and Fixtures are required.
type Config struct {
	Ours, Upstream access.Access
	// Root of the checkout, and the folder testdata/HEAD of the module k8s.io/api.
	Root, Fixtures string
	// Requested is the runtime configuration that both servers were started with: the run is then about the versions that are served
	// for it, besides discovery and OpenAPI. Nil asks about the default versions.
	Requested map[string]string
	// Audit is where both record what some users ask; nil compares no records.
	Audit *Audit
	// Only runs seeds and scripts whose title matches; nil runs all.
	Only *regexp.Regexp
	// Every runs one of so many faults; default 1, all. Other values are for a quick look.
	Every int
	// Progress gets a line per seed.
	Progress io.Writer
}

// Whole reports whether the run leaves nothing out.
func (c Config) Whole() bool { return c.Only == nil && c.Every <= 1 }

// run is the state of one comparison.
type run struct {
	Config
	ours, upstream *server
	report         *Report
	known          *catalog.Catalog
}

// Run compares the two servers and adds what differs to the report. Both must be fresh: what the run makes stays behind.
func Run(ctx context.Context, config Config, report *Report) error {
	known, err := catalog.Serving(config.Requested)
	if err != nil {
		return err
	}
	r := &run{Config: config, report: report, known: known}
	seeds, err := r.loadSeeds()
	if err != nil {
		return err
	}
	if r.ours, err = newServer("kogge", config.Ours); err != nil {
		return err
	}
	if r.upstream, err = newServer(upstreamName, config.Upstream); err != nil {
		return err
	}
	if err := r.documents(ctx); err != nil {
		return err
	}
	if err := r.level(ctx); err != nil {
		return err
	}
	for _, s := range seeds {
		if config.Only != nil && !config.Only.MatchString(s.title()) {
			continue
		}
		before := r.report.Requests
		if err := r.seed(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.title(), err)
		}
		fmt.Fprintf(config.Progress, "%6d requests  %s\n", r.report.Requests-before, s.title())
	}
	if err := r.scripts(ctx); err != nil {
		return err
	}
	return r.audited(ctx)
}

// both asks both servers at once, compares what they say, and returns it.
func (r *run) both(ctx context.Context, subject, title string, c *call) (ours, upstream *answer, err error) {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { ours, err = r.ours.ask(gctx, c); return err })
	g.Go(func() (err error) { upstream, err = r.upstream.ask(gctx, c); return err })
	if err := g.Wait(); err != nil {
		if upstreamPanics(err) { // there is nothing to compare with
			return &answer{code: http.StatusInternalServerError}, &answer{code: http.StatusInternalServerError}, nil
		}
		return nil, nil, fmt.Errorf("%s: %w", title, err)
	}
	r.report.Requests++
	for _, d := range compare(c, ours, upstream) {
		r.report.add(subject, title, c, d)
	}
	return ours, upstream, nil
}

// upstreamPanics tells an answer that upstream broke off: its validation panics over some manifests, and the connection is reset.
func upstreamPanics(err error) bool {
	return strings.Contains(err.Error(), upstreamName+": ") && strings.Contains(err.Error(), "INTERNAL_ERROR; received from peer")
}

// level makes the ground even: what only one of two fresh servers has, and what the seeds lean on.
func (r *run) level(ctx context.Context) error {
	// kogge begins with a default StorageClass for its own volumes, and with the Service of DNS.
	for _, path := range []string{"/apis/storage.k8s.io/v1/storageclasses", "/api/v1/namespaces/kube-system/services"} {
		if _, err := r.ours.ask(ctx, &call{method: "DELETE", path: path}); err != nil {
			return err
		}
	}
	objects, err := readDocuments(filepath.Join(r.Root, "test/peers/differential/testdata/ground.yaml"))
	if err != nil {
		return err
	}
	for _, object := range objects {
		s, err := newSeed(r.known, object)
		if err != nil {
			return err
		}
		c := &call{method: "POST", path: s.collection(), body: encode(s.object)}
		_, upstream, err := r.both(ctx, s.title(), "ground "+s.title(), c)
		if err != nil {
			return err
		}
		if upstream.refused() {
			return fmt.Errorf("ground %s: upstream refuses it: %s", s.title(), brief(upstream))
		}
	}
	return nil
}
