// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// maxTokenAge renews tokens of long life once a day, so that a leaked one dies.
const maxTokenAge = 24 * time.Hour

// tokens keeps the service account tokens that are in use, and knows when each is to be renewed.
type tokens struct {
	ask func(ctx context.Context, namespace, account string, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)

	mu   sync.Mutex
	have map[tokenKey]token
}

type tokenKey struct {
	pod                types.UID
	namespace, account string
	audience           string
	seconds            int64
}

type token struct {
	text           string
	renew, expires time.Time
}

func newTokens(ask func(context.Context, string, string, *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)) *tokens {
	return &tokens{ask: ask, have: map[tokenKey]token{}}
}

// get returns a token bound to the pod and when to ask again. An old token is returned while a new one can't be had, as long
// as it holds.
func (t *tokens) get(ctx context.Context, p *corev1.Pod, s *corev1.ServiceAccountTokenProjection) (string, time.Time, error) {
	seconds := int64(3600)
	if s.ExpirationSeconds != nil {
		seconds = *s.ExpirationSeconds
	}
	var audiences []string
	if s.Audience != "" {
		audiences = []string{s.Audience}
	}
	return t.request(ctx, p, audiences, seconds)
}

func (t *tokens) request(ctx context.Context, p *corev1.Pod, audiences []string, seconds int64) (string, time.Time, error) {
	if t.ask == nil {
		return "", time.Time{}, errors.New("this node has no API server to ask for service account tokens")
	}
	key := tokenKey{pod: p.UID, namespace: p.Namespace, account: p.Spec.ServiceAccountName, audience: fmt.Sprint(audiences), seconds: seconds}
	t.mu.Lock()
	old, ok := t.have[key]
	t.mu.Unlock()
	now := time.Now()
	if ok && now.Before(old.renew) {
		return old.text, old.renew, nil
	}
	answer, err := t.ask(ctx, p.Namespace, p.Spec.ServiceAccountName, &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: audiences, ExpirationSeconds: &seconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.Name, UID: p.UID},
	}})
	if err != nil {
		if ok && now.Before(old.expires) {
			return old.text, now.Add(time.Minute), nil
		}
		return "", time.Time{}, fmt.Errorf("failed to fetch token: %w", err)
	}
	life := answer.Status.ExpirationTimestamp.Sub(now)
	fresh := token{text: answer.Status.Token, expires: answer.Status.ExpirationTimestamp.Time, renew: now.Add(min(life*4/5, maxTokenAge))}
	t.mu.Lock()
	t.have[key] = fresh
	t.mu.Unlock()
	return fresh.text, fresh.renew, nil
}

func (t *tokens) forget(uid types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range t.have {
		if key.pod == uid {
			delete(t.have, key)
		}
	}
}
