// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"kogge.dev/kogge/internal/pki"
)

// TestShutdownLetsRequestsFinish stops a server while a watch streams and a write is on its way.
func TestShutdownLetsRequestsFinish(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) { shutdown(t, version) })
	}
}

func shutdown(t *testing.T, version string) {
	keys, listener, stop := serve(t)
	defer stop()
	admin, err := keys.CA.Issue(pki.Leaf{Name: "admin", User: "admin", Groups: []string{"system:masters"}})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		ForceAttemptHTTP2: version == "HTTP/2.0",
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: keys.CA.Pool(), Certificates: []tls.Certificate{admin.TLS()}},
	}
	defer transport.CloseIdleConnections()
	client, url := &http.Client{Transport: transport}, "https://"+listener.Addr().String()+"/api/v1/namespaces/default/configmaps"
	send := func(method, url string, body io.Reader) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), method, url, body)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		return client.Do(req)
	}
	watch, err := send(http.MethodGet, url+"?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Body.Close()
	if watch.Proto != version {
		t.Fatalf("the server speaks %s", watch.Proto)
	}
	body, slowly := io.Pipe()
	type answer struct {
		code int
		text string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		res, err := send(http.MethodPost, url, body)
		if err != nil {
			answered <- answer{err: err}
			return
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		answered <- answer{res.StatusCode, string(text), err}
	}()
	if _, err := io.WriteString(slowly, `{"apiVersion":"v1","kind":"ConfigMap",`); err != nil {
		t.Fatal(err)
	}
	const begun = `apiserver_current_inflight_requests{request_kind="mutating"} 1`
	for text := ""; !strings.Contains(text, begun); { // The server waits for the rest of it.
		res, err := send(http.MethodGet, "https://"+listener.Addr().String()+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		text = string(all)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	if text, err := io.ReadAll(watch.Body); err != nil { // until the server ends it
		t.Errorf("the watch ended with %v after %d bytes", err, len(text))
	}
	time.Sleep(300 * time.Millisecond) // The server that stops waits for it.
	if _, err := io.WriteString(slowly, `"metadata":{"name":"late"}}`); err != nil {
		t.Fatal(err)
	}
	if err := slowly.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-answered; got.err != nil || got.code != http.StatusCreated || !strings.Contains(got.text, `"name":"late"`) {
		t.Errorf("the write on its way = %d %s, %v; want 201", got.code, got.text, got.err)
	}
	<-stopped
}
