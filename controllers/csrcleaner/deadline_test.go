// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package csrcleaner

import (
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDeadline names when requests of each state go.
func TestDeadline(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name        string
		condition   certificatesv1.RequestConditionType
		certificate string
		want        time.Duration
	}{
		{"pending", "", "", 24 * time.Hour},
		{"denied", certificatesv1.CertificateDenied, "", 2 * time.Hour},
		{"failed", certificatesv1.CertificateFailed, "", 2 * time.Hour},
		{"approved but not signed", certificatesv1.CertificateApproved, "", 25 * time.Hour},
		{"signed", certificatesv1.CertificateApproved, "text", 2 * time.Hour},
	} {
		r := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(start)}}
		if c.condition != "" {
			r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{
				{Type: c.condition, LastUpdateTime: metav1.NewTime(start.Add(time.Hour))},
			}
		}
		r.Status.Certificate = []byte(c.certificate)
		if got, ok := deadline(r); !ok || got.Sub(start) != c.want {
			t.Errorf("%s: deadline(r) = start + %v, want start + %v", c.name, got.Sub(start), c.want)
		}
	}
}
