// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/expr"
)

// authenticate verifies a token and makes the user that the rules say.
func (i *issuer) authenticate(ctx context.Context, token string, now time.Time) (*request.User, error) {
	c, err := i.signed(ctx, token, now)
	if err != nil {
		return nil, err
	}
	return i.user(ctx, c)
}

// user maps claims to a user and checks both.
func (r *rules) user(ctx context.Context, c claims) (*request.User, error) {
	m := &r.jwt.ClaimMappings
	values := expr.ClaimValues(c)
	u := &request.User{}
	var err error
	if u.Name, err = r.name(ctx, c, values); err != nil {
		return nil, fmt.Errorf("username: %w", err)
	}
	if u.Groups, err = r.groupsOf(ctx, c, values); err != nil {
		return nil, fmt.Errorf("groups: %w", err)
	}
	switch {
	case m.UID.Claim != "":
		u.UID, err = c.text(m.UID.Claim)
	case r.uid != nil:
		u.UID, err = r.uid.Text(ctx, values)
	}
	if err != nil {
		return nil, fmt.Errorf("uid: %w", err)
	}
	if u.Extra, err = r.extraOf(ctx, c, values); err != nil {
		return nil, err
	}
	if err := r.checkClaims(ctx, c, values); err != nil {
		return nil, err
	}
	if len(r.userRules) == 0 {
		return u, nil
	}
	if err := holds(ctx, r.userRules, expr.UserValues(u.Name, u.UID, u.Groups, u.Extra)); err != nil {
		return nil, fmt.Errorf("user validation rule: %w", err)
	}
	return u, nil
}

func (r *rules) name(ctx context.Context, c claims, values *expr.Values) (string, error) {
	if r.username != nil {
		name, err := r.username.Text(ctx, values)
		if err == nil && name == "" {
			err = errors.New("the expression gives an empty name")
		}
		return name, err
	}
	m := &r.jwt.ClaimMappings.Username
	name, err := c.text(m.Claim)
	if err != nil {
		return "", fmt.Errorf("claim %q: %w", m.Claim, err)
	}
	if m.Claim == "email" && c.has("email_verified") {
		var verified bool
		if err := json.Unmarshal(c["email_verified"], &verified); err != nil {
			return "", fmt.Errorf("claim \"email_verified\": %w", err)
		}
		if !verified {
			return "", errors.New("email not verified")
		}
	}
	return *m.Prefix + name, nil
}

func (r *rules) groupsOf(ctx context.Context, c claims, values *expr.Values) ([]string, error) {
	if r.groups != nil {
		return r.groups.Texts(ctx, values)
	}
	m := &r.jwt.ClaimMappings.Groups
	if m.Claim == "" {
		return nil, nil
	}
	raw, ok := c[m.Claim]
	if !ok {
		return nil, c.notElsewhere(m.Claim)
	}
	var groups audiences // A single group may be written without a list.
	if err := json.Unmarshal(raw, &groups); err != nil {
		return nil, fmt.Errorf("claim %q: %w", m.Claim, err)
	}
	out := make([]string, len(groups))
	for n, g := range groups {
		out[n] = *m.Prefix + g
	}
	return out, nil
}

// notElsewhere refuses tokens whose issuer keeps the claim at another server (OpenID Connect Core 1.0, section 5.6.2): to take the claim
// as absent would give the user fewer groups than they have.
func (c claims) notElsewhere(claim string) error {
	names := map[string]json.RawMessage{}
	if raw, ok := c["_claim_names"]; ok && json.Unmarshal(raw, &names) == nil {
		if _, ok := names[claim]; ok {
			return fmt.Errorf("claim %q is a distributed claim, which is not supported", claim)
		}
	}
	return nil
}

func (r *rules) extraOf(ctx context.Context, c claims, values *expr.Values) (map[string][]string, error) {
	extra := map[string][]string{}
	if id, err := c.text("jti"); err == nil && id != "" {
		extra[authn.CredentialIDKey] = []string{"JTI=" + id}
	}
	for n, m := range r.jwt.ClaimMappings.Extra {
		list, err := r.extra[n].Texts(ctx, values)
		if err != nil {
			return nil, fmt.Errorf("extra %q: %w", m.Key, err)
		}
		if len(list) > 0 {
			extra[m.Key] = list
		}
	}
	if len(extra) == 0 {
		return nil, nil
	}
	return extra, nil
}

func (r *rules) checkClaims(ctx context.Context, c claims, values *expr.Values) error {
	for _, rule := range r.jwt.ClaimValidationRules {
		if rule.Claim == "" {
			continue
		}
		got, err := c.text(rule.Claim)
		if err != nil {
			return fmt.Errorf("required claim %q: %w", rule.Claim, err)
		}
		if got != rule.RequiredValue {
			return fmt.Errorf("required claim %q is %q, not %q", rule.Claim, got, rule.RequiredValue)
		}
	}
	if err := holds(ctx, r.claimRules, values); err != nil {
		return fmt.Errorf("claim validation rule: %w", err)
	}
	return nil
}

// holds returns an error that names the first rule that does not hold.
func holds(ctx context.Context, list []rule, values *expr.Values) error {
	for _, r := range list {
		ok, err := r.condition.Holds(ctx, values)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("validation expression '%s' failed: %s", r.expression, r.message)
		}
	}
	return nil
}
