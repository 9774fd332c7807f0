// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package tokencleaner_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

// TestExpiredTokensGo makes a token that lives for an hour.
func TestExpiredTokensGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secrets := client.Of[*corev1.Secret](testcluster.New(t).Admin())
		_, err := secrets.Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef"}, Type: "bootstrap.kubernetes.io/token",
			StringData: map[string]string{
				"token-id": "abcdef", "token-secret": "0123456789abcdef", "expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		if _, err := secrets.Get(t.Context(), "kube-system", "bootstrap-token-abcdef"); err != nil {
			t.Errorf("before its time: %v", err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if _, err := secrets.Get(t.Context(), "kube-system", "bootstrap-token-abcdef"); !apierrors.IsNotFound(err) {
			t.Errorf("after its time: %v, want not found", err)
		}
	})
}
