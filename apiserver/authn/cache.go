// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"

	"kogge.dev/kogge/apiserver/request"
)

// tokenCacheTTL bounds how long a deleted pod's token may still be believed (upstream: 10 s for success).
const tokenCacheTTL = 10 * time.Second

// tokenCacheSize bounds the memory of the cache; at the bound everything expired, then everything, is dropped.
const tokenCacheSize = 4096

// TokenCache remembers what tokens proved, for tokenCacheTTL. Failures are not remembered: verifying garbage costs little
// and a token that becomes valid must be believed at once. Keys are keyed hashes, never tokens.
type TokenCache struct {
	next TokenAuthenticator
	key  [32]byte

	mu      sync.Mutex
	entries map[[32]byte]cachedToken
}

type cachedToken struct {
	user        *TokenUser
	annotations map[string]string
	until       time.Time
}

// NewTokenCache wraps next.
func NewTokenCache(next TokenAuthenticator) *TokenCache {
	c := &TokenCache{next: next, entries: map[[32]byte]cachedToken{}}
	// crypto/rand.Read never fails (it ends the process instead).
	_, _ = rand.Read(c.key[:])
	return c
}

// AuthenticateToken implements TokenAuthenticator.
func (c *TokenCache) AuthenticateToken(ctx context.Context, token string, audiences []string) (*TokenUser, bool, error) {
	key := c.hash(token, audiences)
	now := time.Now()
	c.mu.Lock()
	entry, hit := c.entries[key]
	c.mu.Unlock()
	if hit && now.Before(entry.until) {
		annotateAll(ctx, entry.annotations)
		return entry.user, true, nil
	}
	// The annotations that verification leaves (stale token) belong to every request that shows the token.
	inner := &request.State{}
	user, ok, err := c.next.AuthenticateToken(request.With(ctx, inner), token, audiences)
	annotateAll(ctx, inner.Annotations)
	if !ok || err != nil {
		return user, ok, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= tokenCacheSize {
		c.shrinkLocked(now)
	}
	c.entries[key] = cachedToken{user: user, annotations: inner.Annotations, until: now.Add(tokenCacheTTL)}
	return user, true, nil
}

func (c *TokenCache) shrinkLocked(now time.Time) {
	for k, e := range c.entries {
		if !now.Before(e.until) {
			delete(c.entries, k)
		}
	}
	if len(c.entries) >= tokenCacheSize {
		clear(c.entries)
	}
}

func (c *TokenCache) hash(token string, audiences []string) [32]byte {
	h := hmac.New(sha256.New, c.key[:])
	h.Write([]byte(token))
	for _, a := range audiences {
		h.Write([]byte{0})
		h.Write([]byte(a))
	}
	return [32]byte(h.Sum(nil))
}

func annotateAll(ctx context.Context, annotations map[string]string) {
	if s := request.From(ctx); s != nil {
		for k, v := range annotations {
			s.Annotate(k, v)
		}
	}
}
