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

// TokenTTL bounds how long a deleted pod's token may still be believed (upstream: 10 s for success).
const TokenTTL = 10 * time.Second

// tokenCacheSize bounds the memory of the cache; at the bound everything expired, then everything, is dropped.
const tokenCacheSize = 4096

// CacheConfig says how long answers are remembered; 0 means not at all. Errors never are.
type CacheConfig struct {
	// Known tokens, and those that nobody knows: verifying garbage costs little where no server is asked for it, and a token that becomes valid
	// must be believed at once.
	Known, Unknown time.Duration
}

// TokenCache remembers what tokens proved. Keys are keyed hashes, never tokens.
type TokenCache struct {
	next   TokenAuthenticator
	config CacheConfig
	key    [32]byte

	mu      sync.Mutex
	entries map[[32]byte]cachedToken
}

type cachedToken struct {
	// user is nil for a token that nobody knows.
	user  *TokenUser
	left  *request.State // annotations and warnings
	until time.Time
}

// NewTokenCache wraps next.
func NewTokenCache(next TokenAuthenticator, config CacheConfig) *TokenCache {
	c := &TokenCache{next: next, config: config, entries: map[[32]byte]cachedToken{}}
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
		leave(ctx, entry.left)
		return entry.user, entry.user != nil, nil
	}
	// The annotations and warnings that verification leaves (stale token) belong to every request that shows the token.
	inner := &request.State{}
	user, ok, err := c.next.AuthenticateToken(request.With(ctx, inner), token, audiences)
	leave(ctx, inner)
	ttl := c.config.Known
	if !ok {
		user, ttl = nil, c.config.Unknown
	}
	if err != nil || ttl == 0 {
		return user, ok, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= tokenCacheSize {
		c.shrinkLocked(now)
	}
	c.entries[key] = cachedToken{user: user, left: inner, until: now.Add(ttl)}
	return user, ok, nil
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

// leave passes on to a request what verification has left.
func leave(ctx context.Context, left *request.State) {
	s := request.From(ctx)
	if s == nil {
		return
	}
	for k, v := range left.Annotations {
		s.Annotate(k, v)
	}
	for _, text := range left.Warnings {
		s.Warn(text)
	}
}
