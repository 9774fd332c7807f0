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

// logged is the log once the issuer has nothing left to do.
func (d *desk) logged() string {
	synctest.Wait()
	return d.log.String()
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

// token is signed by a key.
func token(t *testing.T, key any, id string) *jose.JSONWebSignature {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	return parsed
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

// TestIssuerAway shows tokens of a known key, many a second, after the keys have become old and the issuer is away.
func TestIssuerAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		if err := d.issuer.ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(keysOld + time.Second)
		good := token(t, d.key.Key, "1")
		show := func(during time.Duration) {
			for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				if _, err := d.issuer.verify(t.Context(), good); err != nil {
					t.Fatal(err)
				}
			}
		}
		d.set(errors.New("away"), false)
		fetched := d.since()
		show(time.Minute)
		if n := fetched(); n != 6 {
			t.Errorf("keys were tried %d times in a minute, want 6", n)
		}
		d.set(nil, false)
		fetched = d.since()
		show(time.Minute)
		if n := fetched(); n != 1 {
			t.Errorf("keys were fetched %d times after the issuer came back, want once", n)
		}
		if out := d.logged(); strings.Count(out, "are not fetched") != 1 || strings.Count(out, "are fetched again") != 1 {
			t.Errorf("log:\n%s\nwant one line when the issuer went and one when it came", out)
		}
	})
}

// TestStrangersAndAnIssuerAway shows tokens of unknown keys to an issuer that is away, and to one that hangs.
func TestStrangersAndAnIssuerAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		if err := d.issuer.ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.set(errors.New("away"), false)
		strange := token(t, oidctest.NewKey(t, jose.ES256), "2")
		for range 20 {
			if _, err := d.issuer.verify(t.Context(), strange); err == nil || !strings.Contains(err.Error(), "away") {
				t.Errorf("verify = %v, want what the issuer was asked in vain for", err)
			}
		}
		if out := d.logged(); strings.Count(out, "are not fetched") != 1 {
			t.Errorf("log:\n%s\nwant one line", out)
		}
		d.set(nil, true)
		began := time.Now()
		if _, err := d.issuer.verify(t.Context(), strange); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("verify = %v, want %v", err, context.DeadlineExceeded)
		}
		if took := time.Since(began); took != renewTimeout {
			t.Errorf("a token of an unknown key was refused after %v, want %v", took, renewTimeout)
		}
	})
}
