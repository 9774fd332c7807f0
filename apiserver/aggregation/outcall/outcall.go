// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package outcall sends JSON to webhooks, by URL or by Service reference, over TLS.
package outcall

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/aggregation/route"
)

// maxResponse bounds a webhook's answer: twice what an object in the store may measure, and room for the envelope.
const maxResponse = 4 << 20

// maxClients bounds how many transports (and their idle connections) are kept.
const maxClients = 256

// Target says where a webhook is.
type Target struct {
	// URL, or a Service.
	URL                *string
	Namespace, Service string
	// Port of the Service; nil means 443. Path on it; nil means "/".
	Port *int32
	Path *string
	// CABundle in PEM; empty means the host's trust store.
	CABundle []byte
}

// Client calls webhooks and keeps connections to them. It is safe for concurrent use.
type Client struct {
	routes *route.Resolver

	mu      sync.Mutex
	clients map[[32]byte]*http.Client
}

// New makes a client that finds Services through routes.
func New(routes *route.Resolver) *Client {
	return &Client{routes: routes, clients: map[[32]byte]*http.Client{}}
}

// Call posts in as JSON and reads the JSON answer into out. timeout is also told to the webhook, as the parameter of that name; zero
// leaves it out. Every failure, including HTTP errors, comes back as an error that names the URL.
func (c *Client) Call(ctx context.Context, t Target, timeout time.Duration, in, out any) error {
	address, err := t.url(timeout)
	if err != nil {
		return err
	}
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, */*")
	req.Header.Set("User-Agent", "kube-apiserver-admission")
	client, err := c.client(&t, address)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	switch {
	case err != nil:
		return fmt.Errorf("read answer: %w", err)
	case len(data) > maxResponse:
		return fmt.Errorf("answer is larger than %d bytes", maxResponse)
	}
	if err := refusal(resp, data); err != nil {
		return err
	}
	return json.Unmarshal(data, out)
}

// refusal is what an answer other than the one that was hoped for says: in a Status, in plain words, or by its code.
func refusal(resp *http.Response, data []byte) error {
	var status metav1.Status
	if json.Unmarshal(data, &status) == nil && status.Kind == "Status" && status.APIVersion == "v1" && status.Status != metav1.StatusSuccess {
		return &apierrors.StatusError{ErrStatus: status}
	}
	if resp.StatusCode >= http.StatusOK && resp.StatusCode <= http.StatusPartialContent {
		return nil
	}
	const limit = 2048
	words := "unknown"
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && strings.HasPrefix(media, "text/") {
		words = strings.TrimSpace(strings.ToValidUTF8(string(data[:min(len(data), limit)]), "?"))
	}
	return apierrors.NewGenericServerResponse(resp.StatusCode, "POST", schema.GroupResource{}, "", words, 0, true)
}

func (t *Target) port() int32 {
	if t.Port == nil {
		return 443
	}
	return *t.Port
}

func (t *Target) url(timeout time.Duration) (*url.URL, error) {
	var u *url.URL
	if t.URL != nil {
		var err error
		if u, err = url.Parse(*t.URL); err != nil {
			return nil, fmt.Errorf("unparsable URL: %w", err)
		}
		if u.Scheme != "https" {
			return nil, errors.New("a webhook's URL must begin with https")
		}
	} else {
		if t.Service == "" {
			return nil, errors.New("webhook configuration must have either service or URL")
		}
		u = &url.URL{Scheme: "https", Host: net.JoinHostPort(t.serverName(), strconv.Itoa(int(t.port()))), Path: "/"}
		if t.Path != nil {
			u.Path, u.RawQuery, _ = strings.Cut(*t.Path, "?")
		}
	}
	// As upstream, whose clients clean paths: what envtest makes of a webhook has two slashes, and servers redirect from there.
	u.Path = path.Join("/", u.Path)
	u.RawPath = ""
	if timeout > 0 {
		q := u.Query()
		q.Set("timeout", timeout.String())
		u.RawQuery = q.Encode()
	}
	return u, nil
}

func (t *Target) serverName() string { return t.Service + "." + t.Namespace + ".svc" }

func (c *Client) client(t *Target, u *url.URL) (*http.Client, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d %q %v\n", t.Namespace, t.Service, t.port(), u.Host, t.URL != nil)
	h.Write(t.CABundle)
	key := [32]byte(h.Sum(nil))
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.clients[key]; known != nil {
		return known, nil
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(t.CABundle) > 0 {
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(t.CABundle) {
			return nil, errors.New("unable to load root certificates: unable to parse bytes as PEM block")
		}
	}
	transport := &http.Transport{
		TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 25, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
	}
	if t.URL == nil {
		namespace, service, port := t.Namespace, t.Service, t.port()
		tlsConfig.ServerName = t.serverName()
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return c.routes.Dial(ctx, namespace, service, port)
		}
	} else {
		transport.Proxy = http.ProxyFromEnvironment
	}
	if len(c.clients) >= maxClients {
		for k, old := range c.clients {
			old.CloseIdleConnections()
			delete(c.clients, k)
		}
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	c.clients[key] = client
	return client, nil
}
