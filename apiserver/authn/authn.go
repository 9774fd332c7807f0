// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package authn finds out who sends a request: client certificate, bound service account token, bootstrap token, front
// proxy, OIDC, webhook, or nobody.
package authn

import (
	"net/http"

	"kogge.dev/kogge/apiserver/request"
)

// Authenticator is one way to recognise a user. It returns false without an error when the request carries nothing of
// its kind, and an error when it carries something that is wrong.
type Authenticator interface {
	Authenticate(r *http.Request) (*request.User, bool, error)
}
