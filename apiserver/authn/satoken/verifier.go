// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package satoken

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/kinds"
)

// Errors of tokens that are ours and no longer good.
var (
	errExpired     = errors.New("service account token has expired")
	errNotYet      = errors.New("service account token is not valid yet")
	errFuture      = errors.New("service account token is issued in the future")
	errInvalidated = errors.New("service account token has been invalidated")
	errClaims      = errors.New("token could not be validated for any known key or claim set")
)

// leeway forgives clock differences of other API servers, and lets a deleted pod finish its last requests.
const leeway = jwt.DefaultLeeway

var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.ES384, jose.ES512}

// Verifier recognises the tokens of its issuers.
type Verifier struct {
	issuers   []string
	audiences []string
	keys      []verifyKey
	reader    admission.Reader
}

type verifyKey struct {
	id  string
	key crypto.PublicKey
}

// VerifierConfig is what a Verifier needs; all fields are required.
type VerifierConfig struct {
	// Issuers are the accepted "iss" claims; the first is the one that signs now.
	Issuers []string
	// Keys verify signatures.
	Keys []crypto.PublicKey
	// Audiences identify this API server, for questions that name none.
	Audiences []string
	Reader    admission.Reader
}

// NewVerifier makes a verifier.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	v := &Verifier{issuers: cfg.Issuers, audiences: cfg.Audiences, reader: cfg.Reader}
	if len(cfg.Issuers) == 0 || len(cfg.Keys) == 0 || len(cfg.Audiences) == 0 || cfg.Reader == nil {
		return nil, errors.New("token verifier needs issuers, keys, audiences and a reader")
	}
	for _, key := range cfg.Keys {
		if _, err := algorithmOf(key); err != nil {
			return nil, fmt.Errorf("token verifier: %w", err)
		}
		id, err := keyID(key)
		if err != nil {
			return nil, fmt.Errorf("token verifier: %w", err)
		}
		v.keys = append(v.keys, verifyKey{id: id, key: key})
	}
	return v, nil
}

var _ authn.TokenAuthenticator = (*Verifier)(nil)

// AuthenticateToken implements authn.TokenAuthenticator. Tokens of other issuers are not ours and no error.
func (v *Verifier) AuthenticateToken(ctx context.Context, token string, audiences []string) (*authn.TokenUser, bool, error) {
	if !v.ours(token) {
		return nil, false, nil
	}
	c, err := v.signed(token)
	if err != nil {
		return nil, false, err
	}
	accepted, err := v.match([]string(c.Audiences), audiences)
	if err != nil {
		return nil, false, err
	}
	now := time.Now()
	if err := checkTimes(c, now); err != nil {
		return nil, false, err
	}
	user, err := v.alive(ctx, c, now)
	if err != nil {
		return nil, false, err
	}
	noteStale(ctx, c, now)
	return &authn.TokenUser{User: *user, Audiences: accepted}, true, nil
}

// ours looks at the unverified issuer, to tell our tokens from others' without cost.
func (v *Verifier) ours(token string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return false
	}
	var peek struct {
		Issuer string `json:"iss"`
	}
	return json.Unmarshal(payload, &peek) == nil && slices.Contains(v.issuers, peek.Issuer)
}

// signed returns the claims if one of our keys made the signature. A key identifier in the header limits the search.
func (v *Verifier) signed(token string) (*claims, error) {
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil {
		return nil, fmt.Errorf("parse token: %w", err)
	}
	if len(parsed.Headers) != 1 {
		return nil, errClaims
	}
	known := slices.ContainsFunc(v.keys, func(k verifyKey) bool { return k.id == parsed.Headers[0].KeyID })
	for _, k := range v.keys {
		if known && k.id != parsed.Headers[0].KeyID {
			continue
		}
		c := &claims{}
		if parsed.Claims(k.key, c) != nil {
			continue
		}
		want := request.ServiceAccountPrefix + c.Kubernetes.Namespace + ":" + c.Kubernetes.ServiceAccount.Name
		if !slices.Contains(v.issuers, c.Issuer) || c.Subject != want {
			return nil, errClaims
		}
		return c, nil
	}
	return nil, errClaims
}

// match returns the audiences that the token and the question share.
func (v *Verifier) match(token, asked []string) ([]string, error) {
	if len(token) == 0 {
		token = v.audiences
	}
	if len(asked) == 0 {
		return token, nil
	}
	var shared []string
	for _, a := range asked {
		if slices.Contains(token, a) {
			shared = append(shared, a)
		}
	}
	if len(shared) == 0 {
		return nil, fmt.Errorf("token audiences %q is invalid for the target audiences %q", token, asked)
	}
	return shared, nil
}

func checkTimes(c *claims, now time.Time) error {
	err := c.Validate(jwt.Expected{Time: now})
	switch {
	case err == nil && c.Expiry == nil:
		return errClaims
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrExpired):
		return errExpired
	case errors.Is(err, jwt.ErrNotValidYet):
		return errNotYet
	case errors.Is(err, jwt.ErrIssuedInTheFuture):
		return errFuture
	}
	return errClaims
}

// alive checks that everything that the token is bound to still exists with the same UID, and returns the user.
func (v *Verifier) alive(ctx context.Context, c *claims, now time.Time) (*request.User, error) {
	k := c.Kubernetes
	gone := now.Add(-leeway)
	sa, found, err := admission.GetAny[*corev1.ServiceAccount](ctx, v.reader, resource("serviceaccounts"), k.Namespace, k.ServiceAccount.Name)
	if err != nil {
		return nil, err
	}
	switch {
	case !found:
		return nil, fmt.Errorf("serviceaccounts %q not found", k.ServiceAccount.Name)
	case string(sa.UID) != k.ServiceAccount.UID:
		return nil, fmt.Errorf("service account UID (%s) does not match claim (%s)", sa.UID, k.ServiceAccount.UID)
	case deletedBefore(sa, gone):
		return nil, fmt.Errorf("service account %s/%s has been deleted", k.Namespace, k.ServiceAccount.Name)
	}
	if k.Secret != nil {
		if err := bound[*corev1.Secret](ctx, v.reader, "secrets", k.Namespace, k.Secret, gone); err != nil {
			return nil, err
		}
	}
	extra := map[string][]string{}
	if k.Pod != nil {
		if err := bound[*corev1.Pod](ctx, v.reader, "pods", k.Namespace, k.Pod, gone); err != nil {
			return nil, err
		}
		extra[authn.PodNameKey], extra[authn.PodUIDKey] = []string{k.Pod.Name}, []string{k.Pod.UID}
	}
	if k.Node != nil {
		// A pod's token only reports its node; a node's token dies with the node.
		if k.Pod == nil {
			if err := bound[*corev1.Node](ctx, v.reader, "nodes", "", k.Node, gone); err != nil {
				return nil, err
			}
		}
		extra[authn.NodeNameKey] = []string{k.Node.Name}
		if k.Node.UID != "" {
			extra[authn.NodeUIDKey] = []string{k.Node.UID}
		}
	}
	if c.ID != "" {
		extra[authn.CredentialIDKey] = []string{"JTI=" + c.ID}
	}
	return &request.User{
		Name:   c.Subject,
		UID:    k.ServiceAccount.UID,
		Groups: []string{request.GroupServiceAccounts, request.GroupServiceAccounts + ":" + k.Namespace},
		Extra:  extra,
	}, nil
}

func bound[T kinds.Object](ctx context.Context, r admission.Reader, plural, namespace string, claim *objectClaim, gone time.Time) error {
	obj, found, err := admission.GetAny[T](ctx, r, resource(plural), namespace, claim.Name)
	switch {
	case err != nil:
		return err
	case !found || deletedBefore(obj, gone):
		return errInvalidated
	case string(obj.GetUID()) != claim.UID:
		singular := strings.TrimSuffix(plural, "s")
		return fmt.Errorf("%s UID (%s) does not match service account %s ref claim (%s)", singular, obj.GetUID(), singular, claim.UID)
	}
	return nil
}

func deletedBefore(obj kinds.Object, t time.Time) bool {
	at := obj.GetDeletionTimestamp()
	return at != nil && at.Time.Before(t)
}

// noteStale leaves an audit note when a token with an extended life is used after the life that was asked for.
func noteStale(ctx context.Context, c *claims, now time.Time) {
	warn := c.Kubernetes.WarnAfter
	if warn == nil || *warn == 0 || !now.After(warn.Time()) {
		return
	}
	if s := request.From(ctx); s != nil {
		s.Annotate("authentication.k8s.io/stale-token",
			fmt.Sprintf("subject: %s, seconds after warning threshold: %d", c.Subject, now.Unix()-warn.Time().Unix()))
	}
}

func resource(plural string) schema.GroupResource { return schema.GroupResource{Resource: plural} }
