// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package tokencleaner_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/tokencleaner"
	"kogge.dev/kogge/testcluster"
)

// TestLongerLifeIsSeenLate gives a token a longer life just before it ends.
func TestLongerLifeIsSeenLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "secrets", tokencleaner.New)
		secrets := client.Of[*corev1.Secret](c)
		ends := func(in time.Duration) string { return time.Now().Add(in).UTC().Format(time.RFC3339) }
		token, err := secrets.Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef"}, Type: "bootstrap.kubernetes.io/token",
			StringData: map[string]string{"token-id": "abcdef", "token-secret": "0123456789abcdef", "expiration": ends(time.Minute)},
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		lag.Events(10 * time.Second)
		body := `{"stringData":{"expiration":"` + ends(time.Hour) + `"}}`
		if _, err := secrets.Patch(t.Context(), "kube-system", token.Name, types.MergePatchType, []byte(body)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := secrets.Get(t.Context(), "kube-system", token.Name); err != nil {
			t.Errorf("a token that lives for an hour, after a minute: %v", err)
		}
	})
}
