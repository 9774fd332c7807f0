// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"kogge.dev/kogge/apiserver/authn/oidc/oidctest"
)

// desk is an issuer's server without a network, so that its times can be those of a bubble.
type desk struct {
	issuer *issuer
	key    jose.JSONWebKey
	log    bytes.Buffer

	mu sync.Mutex
	// asked counts requests for keys. failure is what becomes of them, unless hung has them wait until they are given up.
	asked   int
	failure error
	hung    bool
}

const deskURL = "https://issuer.example"

// newDesk runs an issuer in a bubble until the test ends.
func newDesk(t *testing.T, failure error) *desk {
	t.Helper()
	d := &desk{key: jose.JSONWebKey{Key: oidctest.NewKey(t, jose.ES256), KeyID: "1", Algorithm: "ES256"}, failure: failure}
	r := &rules{}
	r.jwt.Issuer.URL = deskURL
	d.issuer = newIssuer(r, slog.New(slog.NewTextHandler(&d.log, nil)), newMetrics())
	d.issuer.client.Transport = d
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		<-d.issuer.ended
	})
	go d.issuer.run(ctx)
	return d
}

func (d *desk) set(failure error, hung bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failure, d.hung = failure, hung
}

// since counts requests for keys from now on.
func (d *desk) since() func() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.asked
	return func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.asked - before
	}
}

// RoundTrip implements http.RoundTripper.
func (d *desk) RoundTrip(r *http.Request) (*http.Response, error) {
	var answer any = map[string]string{"issuer": deskURL, "jwks_uri": deskURL + "/keys"}
	d.mu.Lock()
	failure, hung := d.failure, d.hung
	if r.URL.Path == "/keys" {
		d.asked++
		answer = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{d.key.Public()}}
	}
	d.mu.Unlock()
	if hung {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if failure != nil {
		return nil, failure
	}
	body, err := json.Marshal(answer)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, err
}

func TestReadyFetchesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, errors.New("is not up yet"))
		wait, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.issuer.ready(wait); err == nil || !strings.Contains(err.Error(), "is not up yet") {
			t.Errorf("ready = %v, want the reason", err)
		}
		d.set(nil, false)
		fetched := d.since()
		if err := d.issuer.ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := fetched(); n != 1 {
			t.Errorf("keys were fetched %d times, want once", n)
		}
	})
}
