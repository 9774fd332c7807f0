// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"context"
	"fmt"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/apiserver/request"
)

// Reviews serves the virtual resources of authentication.k8s.io.
type Reviews struct {
	// Tokens recognises the tokens that are asked about. Audiences identify this API server, for reviews that name none.
	Tokens    TokenAuthenticator
	Audiences []string
}

// TokenReview answers whom a token belongs to. obj is not changed.
func (v *Reviews) TokenReview(ctx context.Context, obj runtime.Object) (runtime.Object, error) {
	in, ok := obj.(*authenticationv1.TokenReview)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a TokenReview: %#v", obj))
	}
	if in.Spec.Token == "" {
		return nil, apierrors.NewBadRequest("token is required for TokenReview in authentication")
	}
	out := in.DeepCopy()
	audiences := in.Spec.Audiences
	if len(audiences) == 0 {
		audiences = v.Audiences
	}
	user, ok, err := v.Tokens.AuthenticateToken(ctx, in.Spec.Token, audiences)
	out.Status = authenticationv1.TokenReviewStatus{Authenticated: ok && err == nil}
	switch {
	case err != nil:
		out.Status.Error = err.Error()
	case !ok:
		out.Status.Error = "invalid bearer token"
	}
	if !out.Status.Authenticated {
		return out, nil
	}
	full := withAuthenticated(&user.User)
	out.Status.User = userInfo(full)
	for _, a := range user.Audiences {
		if slices.Contains(audiences, a) {
			out.Status.Audiences = append(out.Status.Audiences, a)
		}
	}
	if len(user.Audiences) == 0 {
		out.Status.Audiences = audiences
	}
	return out, nil
}

// SelfSubjectReview tells users who they are.
func (v *Reviews) SelfSubjectReview(ctx context.Context, obj runtime.Object) (runtime.Object, error) {
	if _, ok := obj.(*authenticationv1.SelfSubjectReview); !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a SelfSubjectReview: %#v", obj))
	}
	state := request.From(ctx)
	if state == nil {
		return nil, apierrors.NewBadRequest("no user present on request")
	}
	return &authenticationv1.SelfSubjectReview{
		ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(time.Now())},
		Status:     authenticationv1.SelfSubjectReviewStatus{UserInfo: userInfo(&state.User)},
	}, nil
}

func userInfo(u *request.User) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for k, v := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[k] = v
	}
	return info
}

// withAuthenticated makes everybody but the anonymous user a member of system:authenticated.
func withAuthenticated(u *request.User) *request.User {
	if u.Name == request.Anonymous || slices.Contains(u.Groups, request.GroupAuthenticated) || slices.Contains(u.Groups, request.GroupUnauthenticated) {
		return u
	}
	out := *u
	out.Groups = append(slices.Clip(slices.Clone(u.Groups)), request.GroupAuthenticated)
	return &out
}
