// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/apiserver/reviewhook"
)

// WebhookTimeout bounds all tries to ask a webhook about one token. A request waits for it.
const WebhookTimeout = 10 * time.Second

// Webhook asks a server whom a token belongs to (TokenReview).
type Webhook struct {
	Server *reviewhook.Server
	// Audiences identify this API server: what tokens are good for whose review names no audiences.
	Audiences []string
}

// AuthenticateToken implements TokenAuthenticator.
func (w Webhook) AuthenticateToken(ctx context.Context, token string, audiences []string) (*TokenUser, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, WebhookTimeout)
	defer cancel()
	in := &authenticationv1.TokenReview{
		TypeMeta: metav1.TypeMeta{APIVersion: authenticationv1.SchemeGroupVersion.String(), Kind: "TokenReview"},
		Spec:     authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences},
	}
	var out authenticationv1.TokenReview
	if err := w.Server.Ask(ctx, in, &out, nil); err != nil {
		return nil, false, fmt.Errorf("ask the authentication webhook: %w", err)
	}
	status := &out.Status
	good := status.Audiences
	if len(good) == 0 {
		good = w.Audiences
	}
	if len(audiences) > 0 {
		good = slices.DeleteFunc(slices.Clone(audiences), func(a string) bool { return !slices.Contains(good, a) })
		if len(good) == 0 {
			return nil, false, nil
		}
	}
	switch {
	case !status.Authenticated && status.Error != "":
		return nil, false, errors.New(status.Error)
	case !status.Authenticated:
		return nil, false, nil
	}
	user := request.User{Name: status.User.Username, UID: status.User.UID, Groups: status.User.Groups}
	for k, v := range status.User.Extra {
		if user.Extra == nil {
			user.Extra = map[string][]string{}
		}
		user.Extra[k] = v
	}
	return &TokenUser{User: user, Audiences: good}, true, nil
}
