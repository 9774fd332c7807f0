// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"unicode/utf8"

	"kogge.dev/kogge/apiserver/request"
)

// ErrInvalidToken is returned for a bearer token that nobody recognises.
var ErrInvalidToken = errors.New("invalid bearer token")

// TokenUser is what a token proves.
type TokenUser struct {
	User request.User
	// Audiences are those of the question that the token is meant for; empty for tokens without audiences.
	Audiences []string
}

// TokenAuthenticator recognises one kind of token. Audiences are the acceptable ones; empty means that the caller does not
// care. Like Authenticator, it returns false without an error for tokens that are not of its kind.
type TokenAuthenticator interface {
	AuthenticateToken(ctx context.Context, token string, audiences []string) (*TokenUser, bool, error)
}

// TokenUnion asks token authenticators in order.
type TokenUnion []TokenAuthenticator

// AuthenticateToken implements TokenAuthenticator. Errors count only if nobody recognises the token.
func (u TokenUnion) AuthenticateToken(ctx context.Context, token string, audiences []string) (*TokenUser, bool, error) {
	var errs []error
	for _, a := range u {
		user, ok, err := a.AuthenticateToken(ctx, token, audiences)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ok {
			return user, true, nil
		}
	}
	return nil, false, errors.Join(errs...)
}

// ForServer takes tokens that know nothing about audiences as meant for this API server, and for nobody else.
type ForServer struct {
	Tokens TokenAuthenticator
	// Audiences that identify this API server.
	Audiences []string
}

// AuthenticateToken implements TokenAuthenticator.
func (f ForServer) AuthenticateToken(ctx context.Context, token string, audiences []string) (*TokenUser, bool, error) {
	accepted := f.Audiences
	if len(audiences) > 0 {
		accepted = slices.DeleteFunc(slices.Clone(audiences), func(a string) bool { return !slices.Contains(f.Audiences, a) })
		if len(accepted) == 0 {
			return nil, false, nil
		}
	}
	user, ok, err := f.Tokens.AuthenticateToken(ctx, token, nil)
	if err != nil || !ok {
		return nil, false, err
	}
	return &TokenUser{User: user.User, Audiences: accepted}, true, nil
}

// Bearer takes a token from the Authorization header, or from the WebSocket subprotocol that browsers use, and asks Tokens.
type Bearer struct {
	Tokens TokenAuthenticator
	// Audiences that identify this API server.
	Audiences []string
}

// Authenticate implements Authenticator. A recognised token is removed from the request, so that it can't be forwarded.
func (b Bearer) Authenticate(r *http.Request) (*request.User, bool, error) {
	if token, ok := headerToken(r); ok {
		user, ok, err := b.ask(r.Context(), token)
		if ok {
			r.Header.Del("Authorization")
		}
		return user, ok, err
	}
	token, rest, err := websocketToken(r)
	if token == "" || err != nil {
		return nil, false, err
	}
	user, ok, err := b.ask(r.Context(), token)
	if ok {
		r.Header.Set("Sec-Websocket-Protocol", strings.Join(rest, ","))
	}
	return user, ok, err
}

func (b Bearer) ask(ctx context.Context, token string) (*request.User, bool, error) {
	answer, ok, err := b.Tokens.AuthenticateToken(ctx, token, b.Audiences)
	if err != nil {
		return nil, false, err
	}
	if !ok {
		return nil, false, ErrInvalidToken
	}
	return &answer.User, true, nil
}

func headerToken(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return "", false
	}
	token, _, _ = strings.Cut(token, " ")
	return token, token != ""
}

// websocketProtocolPrefix begins the subprotocol that carries a base64url token.
const websocketProtocolPrefix = "base64url.bearer.authorization.k8s.io."

var errWebsocketToken = errors.New("websocket subprotocol carries no well-formed bearer token")

// websocketToken returns the token of a WebSocket upgrade and the subprotocols that remain without it.
func websocketToken(r *http.Request) (token string, rest []string, err error) {
	if !headerContains(r.Header, "Connection", "upgrade") || !headerContains(r.Header, "Upgrade", "websocket") {
		return "", nil, nil
	}
	for _, line := range r.Header[textproto.CanonicalMIMEHeaderKey("Sec-Websocket-Protocol")] {
		for protocol := range strings.SplitSeq(line, ",") {
			protocol = strings.TrimSpace(protocol)
			encoded, ok := strings.CutPrefix(protocol, websocketProtocolPrefix)
			if !ok {
				rest = append(rest, protocol)
				continue
			}
			if token != "" {
				return "", nil, errWebsocketToken
			}
			raw, err := base64.RawURLEncoding.DecodeString(encoded)
			if err != nil || !utf8.Valid(raw) || len(raw) == 0 {
				return "", nil, errWebsocketToken
			}
			token = string(raw)
		}
	}
	if token != "" && len(rest) == 0 {
		// The server must answer with a subprotocol that is not the token.
		return "", nil, errWebsocketToken
	}
	return token, rest, nil
}

func headerContains(h http.Header, name, want string) bool {
	for _, line := range h.Values(name) {
		for item := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(item), want) {
				return true
			}
		}
	}
	return false
}
