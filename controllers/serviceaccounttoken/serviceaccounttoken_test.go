// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package serviceaccounttoken_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/rules/legacytoken"
	"kogge.dev/kogge/testcluster"
)

const limit = 10 * time.Second

// TestTokenInASecret is good for as long as its secret and its account are there.
func TestTokenInASecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, ctx := testcluster.New(t).Admin(), t.Context()
		accounts, secrets := client.Of[*corev1.ServiceAccount](c), client.Of[*corev1.Secret](c)
		account, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "robot"}})
		if err != nil {
			t.Fatal(err)
		}
		add := func(name string) string {
			t.Helper()
			_, err := secrets.Create(ctx, &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: "robot"}},
				Type:       corev1.SecretTypeServiceAccountToken,
			})
			if err != nil {
				t.Fatal(err)
			}
			token := ""
			testcluster.Await(t, c, "default", limit, func(all []*corev1.Secret) bool {
				for _, s := range all {
					if s.Name == name && len(s.Data["token"]) > 0 {
						token = string(s.Data["token"])
						if s.Annotations[corev1.ServiceAccountUIDKey] != string(account.UID) || string(s.Data["namespace"]) != "default" || len(s.Data["ca.crt"]) == 0 {
							t.Errorf("secret: annotations %v, keys of data %d", s.Annotations, len(s.Data))
						}
					}
				}
				return token != ""
			})
			return token
		}
		review := func(token string) authenticationv1.TokenReviewStatus {
			t.Helper()
			r, err := client.Of[*authenticationv1.TokenReview](c).Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}})
			if err != nil {
				t.Fatal(err)
			}
			return r.Status
		}
		first, second := add("first"), add("second")
		if s := review(first); !s.Authenticated || s.User.Username != "system:serviceaccount:default:robot" || s.User.UID != string(account.UID) {
			t.Errorf("review of the token: %+v", s)
		}
		if err := secrets.Delete(ctx, "default", "first", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		gone := func(what, token string) {
			t.Helper()
			time.Sleep(authn.TokenTTL) // a token that was believed is believed so much longer
			synctest.Wait()
			if review(token).Authenticated {
				t.Errorf("token is good after %s", what)
			}
		}
		gone("its secret was deleted", first)
		if err := accounts.Delete(ctx, "default", "robot", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		testcluster.Await(t, c, "default", limit, func(all []*corev1.Secret) bool { return len(all) == 0 })
		gone("its account was deleted", second)
	})
}

// TestUseOfATokenInASecretIsNoted: on the secret, by its day; who uses one that was marked invalid is told what to do.
func TestUseOfATokenInASecretIsNoted(t *testing.T) {
	c, ctx := testcluster.New(t).Admin(), t.Context()
	secrets := client.Of[*corev1.Secret](c)
	if _, err := client.Of[*corev1.ServiceAccount](c).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "robot"}}); err != nil {
		t.Fatal(err)
	}
	for name, labels := range map[string]map[string]string{"token": nil, "marked": {legacytoken.InvalidSince: "2026-01-01"}} {
		_, err := secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: labels, Annotations: map[string]string{corev1.ServiceAccountNameKey: "robot"}},
			Type:       corev1.SecretTypeServiceAccountToken,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	tokens := map[string]string{}
	testcluster.Await(t, c, "default", limit, func(all []*corev1.Secret) bool {
		for _, s := range all {
			if len(s.Data["token"]) > 0 {
				tokens[s.Name] = string(s.Data["token"])
			}
		}
		return len(tokens) == 2
	})
	review := func(name string) authenticationv1.TokenReviewStatus {
		t.Helper()
		r, err := client.Of[*authenticationv1.TokenReview](c).Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: tokens[name]}})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status
	}
	before := time.Now()
	if got := review("token"); !got.Authenticated {
		t.Errorf("review of a token: %+v", got)
	}
	const why = "the token in secret default/marked for service account default/robot has been marked invalid. Use tokens from the TokenRequest API"
	if got := review("marked"); got.Authenticated || !strings.Contains(got.Error, why) {
		t.Errorf("review of a token that was marked invalid: %+v", got)
	}
	for name := range tokens {
		s, err := secrets.Get(ctx, "default", name)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Labels[legacytoken.LastUsed]; got != legacytoken.Day(before) && got != legacytoken.Day(time.Now()) {
			t.Errorf("%s was last used %q, want today", name, got)
		}
	}
}
