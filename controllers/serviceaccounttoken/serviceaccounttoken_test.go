// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package serviceaccounttoken_test

import (
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

const limit = 10 * time.Second

// TestTokenInASecret is good for as long as its secret and its account are there.
func TestTokenInASecret(t *testing.T) {
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
		for deadline := time.Now().Add(limit); review(token).Authenticated; time.Sleep(10 * time.Millisecond) { // the review's cache has no event
			if time.Now().After(deadline) {
				t.Fatalf("token is good after %s", what)
			}
		}
	}
	gone("its secret was deleted", first)
	if err := accounts.Delete(ctx, "default", "robot", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", limit, func(all []*corev1.Secret) bool { return len(all) == 0 })
	gone("its account was deleted", second)
}
