// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"kogge.dev/kogge/client/gate"
)

func newGate(config Config) *gate.Gate {
	return gate.New(gate.Config{
		Client: config.Client, ClientCA: func() *x509.CertPool { return config.ClientCA },
		TokenTTL: config.TokenTTL, AllowTTL: config.AllowTTL, DenyTTL: config.DenyTTL,
	})
}

// check returns the HTTP status and reason of a refusal.
func (s *Server) check(r *http.Request) (int, error) {
	u, err := s.gate.Authenticate(r)
	if u == nil && (err == nil || errors.Is(err, gate.ErrUnauthorized)) {
		return http.StatusUnauthorized, gate.ErrUnauthorized
	}
	if err != nil {
		return http.StatusInternalServerError, err
	}
	verb := verbOf(r.Method)
	var last string
	for _, subresource := range subresources(r.URL.Path) {
		q := gate.Question{Verb: verb, Resource: "nodes", Subresource: subresource, Name: s.config.NodeName}
		allowed, err := s.gate.Allowed(r.Context(), u, q)
		if err != nil {
			return http.StatusInternalServerError, fmt.Errorf("Authorization error (user=%s, verb=%s, resource=nodes, subresource(s)=[%s])", u.Name, verb, subresource) //nolint:staticcheck // upstream's text
		}
		if allowed {
			return 0, nil
		}
		last = subresource
	}
	return http.StatusForbidden, fmt.Errorf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=[%s])", u.Name, verb, last) //nolint:staticcheck // upstream's text
}

func verbOf(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return "get"
}

// subresources of nodes that allow a path, the narrowest first.
func subresources(path string) []string {
	const proxy = "proxy"
	switch splitPath(path) {
	case "stats":
		return []string{"stats"}
	case "metrics":
		return []string{"metrics"}
	case "logs":
		return []string{"log"}
	case "checkpoint":
		return []string{"checkpoint"}
	case "healthz":
		return []string{"healthz", proxy}
	case "configz":
		return []string{"configz", proxy}
	case "pods", "runningpods":
		return []string{"pods", proxy}
	}
	return []string{proxy}
}
