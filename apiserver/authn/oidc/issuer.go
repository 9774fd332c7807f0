// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Times of an issuer.
const (
	// discoverAgain is the pause between tries to reach an issuer, and to renew keys for their age.
	discoverAgain = 10 * time.Second
	// keysOld is the age after which keys are fetched again, beside the requests, when a token is shown: so keys that the issuer withdrew
	// are not believed for ever.
	keysOld = 10 * time.Minute
	// askPause is the shortest time between two fetches: who makes up tokens can't make us hammer an issuer.
	askPause = 200 * time.Millisecond
	// renewTimeout bounds how long a token of an unknown key waits for new keys.
	renewTimeout = 10 * time.Second
	// askTimeout bounds one request to an issuer.
	askTimeout = 30 * time.Second
)

// maxDocument bounds what an issuer may answer, in bytes.
const maxDocument = 1 << 20

// issuer is one server of keys. One goroutine, run, asks it; everybody else reads keys or asks run to fetch them.
type issuer struct {
	*rules
	client  *http.Client
	log     *slog.Logger
	metrics *metrics
	hash    string

	// keys is nil until the issuer was reached once.
	keys atomic.Pointer[keySet]
	// wake holds a token when there is somebody to fetch for, or keys are old. A second one adds nothing.
	wake chan struct{}
	// reached is closed when the issuer was reached once, ended when run ends.
	reached chan struct{}
	ended   chan struct{}

	mu sync.Mutex
	// waiting are told the result of the next fetch that begins.
	waiting []chan error
	// failure is why the issuer was not reached when it was last tried.
	failure error
}

// keySet is what an issuer signs with at a time.
type keySet struct {
	keys    []jose.JSONWebKey
	fetched time.Time
}

func newIssuer(r *rules, log *slog.Logger, m *metrics) *issuer {
	sum := sha256.Sum256([]byte(r.jwt.Issuer.URL))
	return &issuer{
		rules: r, log: log.With("issuer", r.jwt.Issuer.URL), metrics: m, hash: "sha256:" + hex.EncodeToString(sum[:]),
		client: &http.Client{Timeout: askTimeout, Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
			DialContext:     (&net.Dialer{Timeout: askTimeout, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: r.roots},
		}},
		wake: make(chan struct{}, 1), reached: make(chan struct{}), ended: make(chan struct{}), failure: errors.New("has not been asked for its keys yet"),
	}
}

// run finds out where the issuer's keys are, fetches them, and fetches them again when it is woken, until ctx ends.
func (i *issuer) run(ctx context.Context) {
	defer i.client.CloseIdleConnections()
	defer close(i.ended)
	location, ok := i.discover(ctx)
	if !ok {
		return
	}
	close(i.reached)
	tried, failed := time.Now(), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-i.wake:
		}
		i.mu.Lock()
		waiting := i.waiting
		i.waiting = nil
		i.mu.Unlock()
		if len(waiting) == 0 && time.Since(tried) < discoverAgain {
			continue // Woken for the age of the keys, which did not get younger by the last try.
		}
		err := i.fetch(ctx, location)
		tried = time.Now()
		switch {
		case ctx.Err() != nil: // says nothing about the issuer
		case err != nil && !failed:
			i.log.Warn("keys of an issuer of tokens are not fetched; those from before stay in force", "err", err)
		case err == nil && failed:
			i.log.Info("keys of an issuer of tokens are fetched again")
		}
		failed = err != nil
		for _, w := range waiting {
			w <- err
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(askPause):
		}
	}
}

// discover tries until the issuer's keys were fetched once. It returns their URL, and false when ctx has ended.
func (i *issuer) discover(ctx context.Context) (string, bool) {
	for {
		location, err := i.locate(ctx)
		if err == nil {
			err = i.fetch(ctx, location)
		}
		if err == nil {
			return location, true
		}
		if ctx.Err() != nil {
			return "", false
		}
		i.log.Warn("issuer of tokens is not reached; its tokens are refused until it is", "err", err)
		i.mu.Lock()
		i.failure = err
		i.mu.Unlock()
		select {
		case <-ctx.Done():
			return "", false
		case <-time.After(discoverAgain):
		}
	}
}

// locate reads the issuer's discovery document (OpenID Connect Discovery 1.0, section 4) and returns the URL of its keys.
func (i *issuer) locate(ctx context.Context) (string, error) {
	url := strings.TrimSuffix(i.jwt.Issuer.URL, "/") + "/.well-known/openid-configuration"
	if d := i.jwt.Issuer.DiscoveryURL; d != nil && *d != "" {
		url = *d
	}
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := i.ask(ctx, url, &document); err != nil {
		return "", err
	}
	switch {
	case document.Issuer != i.jwt.Issuer.URL:
		return "", fmt.Errorf("%s: is of issuer %q, not of %q", url, document.Issuer, i.jwt.Issuer.URL)
	case document.Keys == "":
		return "", fmt.Errorf("%s: has no jwks_uri", url)
	}
	return document.Keys, nil
}

// fetch reads the keys and puts them in force. Keys of kinds that we don't know are left out; none at all is an error.
func (i *issuer) fetch(ctx context.Context, url string) (err error) {
	defer func() {
		result := "success"
		if err != nil {
			result = "failure"
		}
		i.metrics.fetched.WithLabelValues(result, i.hash).SetToCurrentTime()
	}()
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := i.ask(ctx, url, &document); err != nil {
		return err
	}
	next := &keySet{fetched: time.Now()}
	for _, raw := range document.Keys {
		var key jose.JSONWebKey
		if err := json.Unmarshal(raw, &key); err != nil || !key.Valid() || !key.IsPublic() {
			i.log.Debug("key of an issuer is of no use", "key", key.KeyID, "err", err)
			continue
		}
		if key.Use == "" || key.Use == "sig" {
			next.keys = append(next.keys, key)
		}
	}
	if len(next.keys) == 0 {
		return fmt.Errorf("%s: holds no public key for signatures", url)
	}
	i.keys.Store(next)
	return nil
}

func (i *issuer) ask(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := i.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", url, err)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: answered %s", url, resp.Status)
	case len(body) > maxDocument:
		return fmt.Errorf("%s: answered more than %d bytes", url, maxDocument)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: answered no JSON: %w", url, err)
	}
	return nil
}

// ready waits until the issuer was reached, or ctx ends.
func (i *issuer) ready(ctx context.Context) error {
	if i.keys.Load() != nil {
		return nil
	}
	select {
	case <-i.reached:
		return nil
	case <-ctx.Done():
	case <-i.ended:
	}
	return i.unreached()
}

func (i *issuer) unreached() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return fmt.Errorf("issuer %q is not reached: %w", i.jwt.Issuer.URL, i.failure)
}

var errEnded = errors.New("the issuer is no longer in the configuration")

// renew waits for a fetch of the keys that begins after the call.
func (i *issuer) renew(ctx context.Context) error {
	done := make(chan error, 1)
	i.mu.Lock()
	i.waiting = append(i.waiting, done)
	i.mu.Unlock()
	i.wakeUp()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-i.ended:
		return errEnded
	}
}

func (i *issuer) wakeUp() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

var errSignature = errors.New("no key of the issuer made the signature")

// verify returns what the token says if the issuer signed it. Keys are fetched once more for a token that none of the known ones signed:
// issuers begin to use a new key soon after they publish it.
func (i *issuer) verify(ctx context.Context, token *jose.JSONWebSignature) ([]byte, error) {
	set := i.keys.Load()
	if set == nil {
		return nil, i.unreached()
	}
	payload, ok := set.verify(token)
	if !ok {
		ctx, cancel := context.WithTimeout(ctx, renewTimeout)
		defer cancel()
		if err := i.renew(ctx); err != nil {
			return nil, fmt.Errorf("%w, and fetching its keys again: %w", errSignature, err)
		}
		if payload, ok = i.keys.Load().verify(token); !ok {
			return nil, errSignature
		}
		return payload, nil
	}
	if time.Since(set.fetched) > keysOld {
		i.wakeUp()
	}
	return payload, nil
}

func (s *keySet) verify(token *jose.JSONWebSignature) ([]byte, bool) {
	id := token.Signatures[0].Header.KeyID
	for n := range s.keys {
		key := &s.keys[n]
		if id != "" && key.KeyID != id || key.Algorithm != "" && key.Algorithm != token.Signatures[0].Header.Algorithm {
			continue
		}
		if payload, err := token.Verify(key); err == nil {
			return payload, true
		}
	}
	return nil, false
}
