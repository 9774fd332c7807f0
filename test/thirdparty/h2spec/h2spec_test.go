// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package h2spec holds apiserver/h2 to h2spec, the conformance test of HTTP/2 that proxies and servers use, in its strict form.
package h2spec

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"

	"kogge.dev/kogge/apiserver/h2"
)

// TestStrict prints what it tries as it goes.
func TestStrict(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // What is wrong with it is what is tested.
		_, _ = io.WriteString(w, "hello, hello, hello")
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	h2.Attach(server.Config, slog.New(slog.DiscardHandler))
	server.Listener = h2.Listen(server.Listener)
	server.StartTLS()
	defer server.Close()
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	passed, err := h2spec.Run(&config.Config{Host: host, Port: number, Path: "/", TLS: true, Insecure: true, Strict: true, Timeout: 2 * time.Second, MaxHeaderLen: 4000})
	if err != nil {
		t.Fatal(err)
	}
	if !passed {
		t.Error("the output names what failed")
	}
}
