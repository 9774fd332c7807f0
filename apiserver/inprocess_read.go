// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"net/http"
	"net/url"

	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/client"
)

var _ client.PathReader = (*local)(nil)

// Read implements client.PathReader: the path is served as for a request over the network, but for authentication.
func (l *local) Read(ctx context.Context, path string, query url.Values) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return nil, err
	}
	r.URL.RawQuery = query.Encode()
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", l.agent)
	w := &page{header: http.Header{}, code: http.StatusOK}
	l.handler().ServeHTTP(w, r)
	return w.body.Bytes(), client.StatusError(w.code, w.body.Bytes())
}

// handler serves requests as this user: the request path without authentication.
func (l *local) handler() http.Handler {
	served := l.server.withAudit(l.server.withAuthorization(http.HandlerFunc(l.server.route)))
	return l.server.withState(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request.From(r.Context()).User = l.user
		served.ServeHTTP(w, r)
	}))
}

// page is an answer kept in memory.
type page struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (p *page) Header() http.Header { return p.header }

// WriteHeader implements http.ResponseWriter.
func (p *page) WriteHeader(code int) { p.code = code }

// Write implements http.ResponseWriter.
func (p *page) Write(data []byte) (int, error) { return p.body.Write(data) }
