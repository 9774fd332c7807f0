// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package csrcleaner deletes certificate signing requests that have had their time: answered or denied ones after an hour,
// those that nobody decided or signed after a day, and those whose certificate has expired.
package csrcleaner

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/csr"
)

const (
	decidedLife = time.Hour
	pendingLife = 24 * time.Hour
)

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	requests := client.InformerFor[*certificatesv1.CertificateSigningRequest](scope.Informers)
	api := client.Of[*certificatesv1.CertificateSigningRequest](scope.Client)
	loop := reconcile.New(reconcile.Config{
		Name: "certificatesigningrequest-cleaner-controller", Log: scope.Log, Informers: scope.Informers,
		Reconcile: func(ctx context.Context, key reconcile.Key) error {
			r, ok := requests.Get("", key.Name)
			if !ok {
				return nil
			}
			due, ok := deadline(r)
			if !ok {
				return nil
			}
			if left := time.Until(due); left > 0 {
				return reconcile.After(left)
			}
			return client.IgnoreNotFound(api.Delete(ctx, "", r.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &r.UID}}))
		},
	})
	reconcile.Self(loop, requests)
	return loop
}

// deadline is when a request has had its time.
func deadline(r *certificatesv1.CertificateSigningRequest) (time.Time, bool) {
	var due time.Time
	note := func(from metav1.Time, life time.Duration) {
		if at := from.Add(life); !from.IsZero() && (due.IsZero() || at.Before(due)) {
			due = at
		}
	}
	if len(r.Status.Conditions) == 0 {
		note(r.CreationTimestamp, pendingLife)
	}
	for _, c := range r.Status.Conditions {
		switch {
		case c.Type == certificatesv1.CertificateDenied, c.Type == certificatesv1.CertificateFailed:
			note(c.LastUpdateTime, decidedLife)
		case c.Type == certificatesv1.CertificateApproved && len(r.Status.Certificate) > 0:
			note(c.LastUpdateTime, decidedLife)
		case c.Type == certificatesv1.CertificateApproved:
			note(c.LastUpdateTime, pendingLife)
		}
	}
	if csr.Has(r, certificatesv1.CertificateApproved) {
		if block, _ := pem.Decode(r.Status.Certificate); block != nil {
			if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
				note(metav1.NewTime(cert.NotAfter), 0)
			}
		}
	}
	return due, !due.IsZero()
}
