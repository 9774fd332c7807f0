// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package csrcleaner_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"
	"testing/synctest"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

// TestRequestsGo follows a pending and a denied request through an hour.
func TestRequestsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := client.Of[*certificatesv1.CertificateSigningRequest](testcluster.New(t).Admin())
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "me"}}, key)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"pending", "denied"} {
			created, err := requests.Create(t.Context(), &certificatesv1.CertificateSigningRequest{
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Spec: certificatesv1.CertificateSigningRequestSpec{
					Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: "example.com/mine",
					Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if name == "denied" {
				next := created.DeepCopy()
				next.Status.Conditions = append(next.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
					Type: certificatesv1.CertificateDenied, Status: corev1.ConditionTrue, Reason: "Test",
				})
				if _, err := requests.UpdateSub(t.Context(), "approval", next); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, step := range []struct {
			wait time.Duration
			left int
		}{{59 * time.Minute, 2}, {2 * time.Minute, 1}} {
			time.Sleep(step.wait)
			synctest.Wait()
			list, err := requests.List(t.Context(), "", metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Items) != step.left {
				t.Errorf("after %v more there are %d requests, want %d", step.wait, len(list.Items), step.left)
			}
		}
	})
}
