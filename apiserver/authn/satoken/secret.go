// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package satoken

import (
	"context"
	"crypto/subtle"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/rules/legacytoken"
)

// SecretIssuer is the "iss" claim of tokens in secrets, of old.
const SecretIssuer = "kubernetes/serviceaccount"

// secretClaims is the payload of a token that lies in a secret. It has no end: it dies with the secret.
type secretClaims struct {
	jwt.Claims
	Namespace string `json:"kubernetes.io/serviceaccount/namespace"`
	Secret    string `json:"kubernetes.io/serviceaccount/secret.name"`
	Account   string `json:"kubernetes.io/serviceaccount/service-account.name"`
	UID       string `json:"kubernetes.io/serviceaccount/service-account.uid"`
}

// IssueSecret signs the token of a secret for its service account.
func (i *Issuer) IssueSecret(secret *corev1.Secret, account *corev1.ServiceAccount) (string, error) {
	c := secretClaims{
		Claims:    jwt.Claims{Issuer: SecretIssuer, Subject: request.ServiceAccountPrefix + account.Namespace + ":" + account.Name},
		Namespace: secret.Namespace, Secret: secret.Name, Account: account.Name, UID: string(account.UID),
	}
	token, err := jwt.Signed(i.signer).Claims(c).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign token for %s: %w", c.Subject, err)
	}
	return token, nil
}

// Secrets recognises tokens that lie in secrets, and notes that they are used.
type Secrets struct {
	v    *Verifier
	used func(ctx context.Context, secret *corev1.Secret, day string)
}

// NewSecrets makes it; of the configuration, issuers are not used. Used stores the day as the label of a secret's last use.
func NewSecrets(cfg VerifierConfig, used func(ctx context.Context, secret *corev1.Secret, day string)) (*Secrets, error) {
	cfg.Issuers = []string{SecretIssuer}
	v, err := NewVerifier(cfg)
	return &Secrets{v: v, used: used}, err
}

var _ authn.TokenAuthenticator = (*Secrets)(nil)

// AuthenticateToken implements authn.TokenAuthenticator.
func (s *Secrets) AuthenticateToken(ctx context.Context, token string, audiences []string) (*authn.TokenUser, bool, error) {
	if !s.v.ours(token) {
		return nil, false, nil
	}
	c, err := s.signed(token)
	if err != nil {
		return nil, false, err
	}
	accepted, err := s.v.match(nil, audiences)
	if err != nil {
		return nil, false, err
	}
	if err := s.alive(ctx, c, token); err != nil {
		return nil, false, err
	}
	return &authn.TokenUser{Audiences: accepted, User: request.User{
		Name: c.Subject, UID: c.UID, Groups: []string{request.GroupServiceAccounts, request.GroupServiceAccounts + ":" + c.Namespace},
	}}, true, nil
}

func (s *Secrets) signed(token string) (*secretClaims, error) {
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil {
		return nil, fmt.Errorf("parse token: %w", err)
	}
	for _, k := range s.v.keys {
		c := &secretClaims{}
		if parsed.Claims(k.key, c) != nil {
			continue
		}
		if c.Issuer != SecretIssuer || c.Subject != request.ServiceAccountPrefix+c.Namespace+":"+c.Account || c.Secret == "" || c.UID == "" {
			return nil, errClaims
		}
		return c, nil
	}
	return nil, errClaims
}

// alive checks that the secret still holds this very token, and that the account is the same.
func (s *Secrets) alive(ctx context.Context, c *secretClaims, token string) error {
	secret, found, err := admission.GetAny[*corev1.Secret](ctx, s.v.reader, resource("secrets"), c.Namespace, c.Secret)
	switch {
	case err != nil:
		return err
	case !found || secret.DeletionTimestamp != nil || subtle.ConstantTimeCompare(secret.Data[corev1.ServiceAccountTokenKey], []byte(token)) != 1:
		return errInvalidated
	}
	account, found, err := admission.GetAny[*corev1.ServiceAccount](ctx, s.v.reader, resource("serviceaccounts"), c.Namespace, c.Account)
	switch {
	case err != nil:
		return err
	case !found || account.DeletionTimestamp != nil || string(account.UID) != c.UID:
		return errInvalidated
	}
	return s.note(ctx, secret, account)
}

// note leaves the day of the use at the secret, and tells the user of a token that should not be used any more.
func (s *Secrets) note(ctx context.Context, secret *corev1.Secret, account *corev1.ServiceAccount) error {
	if now := time.Now(); legacytoken.Stale(secret, now) {
		s.used(ctx, secret, legacytoken.Day(now))
	}
	state := request.From(ctx)
	if state == nil {
		state = &request.State{}
	}
	if secret.Labels[legacytoken.InvalidSince] != "" {
		state.Annotate("authentication.k8s.io/legacy-token-invalidated", secret.Name+"/"+secret.Namespace)
		return fmt.Errorf("the token in secret %s/%s for service account %s/%s has been marked invalid. Use tokens from the TokenRequest API or manually created "+
			"secret-based tokens, or remove the '%s' label from the secret to temporarily allow use of this token",
			secret.Namespace, secret.Name, account.Namespace, account.Name, legacytoken.InvalidSince)
	}
	if !legacytoken.Generated(account, secret.Name) {
		state.Annotate("authentication.k8s.io/legacy-token-manual-secret", secret.Name)
		return nil
	}
	state.Annotate("authentication.k8s.io/legacy-token-autogenerated-secret", secret.Name)
	state.Warn("Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.")
	return nil
}
