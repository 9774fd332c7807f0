// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package bootstrapsigner_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

func token(id string, more map[string]string) *corev1.Secret {
	data := map[string]string{"token-id": id, "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"}
	maps.Copy(data, more)
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-" + id},
		Type:       "bootstrap.kubernetes.io/token", StringData: data,
	}
}

// TestClusterInfoIsSigned makes tokens and expects the published information to carry signatures of those for signing.
func TestClusterInfoIsSigned(t *testing.T) {
	c := testcluster.New(t).Admin()
	secrets := client.Of[*corev1.Secret](c)
	signing := map[string]string{"usage-bootstrap-signing": "true"}
	for _, s := range []*corev1.Secret{token("abcdef", signing), token("ghijkl", nil)} {
		if _, err := secrets.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	var info *corev1.ConfigMap
	await := func(ok func(map[string]string) bool) {
		t.Helper()
		testcluster.Await(t, c, "kube-public", 10*time.Second, func(all []*corev1.ConfigMap) bool {
			for _, m := range all {
				if m.Name == "cluster-info" && ok(m.Data) {
					info = m
					return true
				}
			}
			return false
		})
	}
	await(func(d map[string]string) bool { return d["jws-kubeconfig-abcdef"] != "" })
	if _, there := info.Data["jws-kubeconfig-ghijkl"]; there {
		t.Error("signed with a token that is not for signing")
	}
	content := info.Data["kubeconfig"]
	if !strings.Contains(content, "server: https://192.0.2.1:6443") {
		t.Errorf("kubeconfig does not name the server:\n%s", content)
	}
	parts := strings.Split(info.Data["jws-kubeconfig-abcdef"], ".")
	if len(parts) != 3 || parts[1] != "" {
		t.Fatalf("signature %q is not detached", info.Data["jws-kubeconfig-abcdef"])
	}
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil || string(header) != `{"alg":"HS256","kid":"abcdef"}` {
		t.Errorf("header %s: %v", header, err)
	}
	mac := hmac.New(sha256.New, []byte("0123456789abcdef"))
	mac.Write([]byte(parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(content))))
	if want := base64.RawURLEncoding.EncodeToString(mac.Sum(nil)); parts[2] != want {
		t.Errorf("signature %s, want %s", parts[2], want)
	}
	if err := secrets.Delete(t.Context(), "kube-system", "bootstrap-token-abcdef", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(func(d map[string]string) bool { _, there := d["jws-kubeconfig-abcdef"]; return !there })
}
