// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package csrsigning signs approved certificate requests for the signers that are Kubernetes' own, with the cluster's
// certificate authority.
package csrsigning

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/csr"
)

// Lifetimes. A certificate begins a little in the past for the sake of clocks that lag.
const (
	longest  = 365 * 24 * time.Hour
	shortest = 10 * time.Minute
	backdate = 5 * time.Minute
	brief    = 8 * time.Hour // below this the backdating is added instead of taken from the lifetime
)

// legacyUnknown is the signer of requests that name none.
const legacyUnknown = "kubernetes.io/legacy-unknown"

// New makes the loop. The authority's key must be present.
func New(scope reconcile.Scope, authority pki.Pair) *reconcile.Loop {
	requests := client.InformerFor[*certificatesv1.CertificateSigningRequest](scope.Informers)
	api := client.Of[*certificatesv1.CertificateSigningRequest](scope.Client)
	loop := reconcile.New(reconcile.Config{
		Name: "certificatesigningrequest-signing-controller", Log: scope.Log, Workers: 2, Informers: scope.Informers,
		Reconcile: func(ctx context.Context, key reconcile.Key) error {
			r, ok := requests.Get("", key.Name)
			if !ok || !csr.Approved(r) || csr.Failed(r) || len(r.Status.Certificate) > 0 || !ours(r.Spec.SignerName) {
				return nil
			}
			next := r.DeepCopy()
			if err := answer(next, authority); err != nil {
				return reconcile.Terminal(fmt.Errorf("sign request %s: %w", key.Name, err))
			}
			if _, err := api.UpdateStatus(ctx, next); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("answer request %s: %w", key.Name, err)
			}
			return nil
		},
	})
	reconcile.Self(loop, requests)
	return loop
}

func ours(signer string) bool {
	switch signer {
	case certificatesv1.KubeAPIServerClientSignerName, certificatesv1.KubeAPIServerClientKubeletSignerName,
		certificatesv1.KubeletServingSignerName, legacyUnknown:
		return true
	}
	return false
}

// answer sets the certificate, or the condition that says why there is none.
func answer(r *certificatesv1.CertificateSigningRequest, authority pki.Pair) error {
	req, err := csr.Parse(r)
	if err != nil {
		return err
	}
	if err := judge(r, req); err != nil {
		r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: "SignerValidationFailure", Message: err.Error(),
			LastUpdateTime: metav1.Now(),
		})
		return nil //nolint:nilerr // the refusal is told in the condition
	}
	if err := req.CheckSignature(); err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	der, err := sign(r, req, authority, time.Now())
	if err != nil {
		return err
	}
	r.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return nil
}

// judge checks the form that the signer promises its users.
func judge(r *certificatesv1.CertificateSigningRequest, req *x509.CertificateRequest) error {
	switch r.Spec.SignerName {
	case certificatesv1.KubeletServingSignerName:
		return csr.JudgeKubeletServing(req, r.Spec.Usages)
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		return csr.JudgeKubeletClient(req, r.Spec.Usages)
	case certificatesv1.KubeAPIServerClientSignerName:
		return judgeClient(r.Spec.Usages)
	}
	return nil
}

func judgeClient(usages []certificatesv1.KeyUsage) error {
	forClient := false
	for _, u := range usages {
		switch u {
		case certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment:
		case certificatesv1.UsageClientAuth:
			forClient = true
		default:
			return fmt.Errorf("invalid usage for client certificate: %s", u)
		}
	}
	if !forClient {
		return fmt.Errorf("missing required usage for client certificate: %s", certificatesv1.UsageClientAuth)
	}
	return nil
}

func sign(r *certificatesv1.CertificateSigningRequest, req *x509.CertificateRequest, authority pki.Pair, now time.Time) ([]byte, error) {
	usage, extended, err := usagesOf(r.Spec.Usages)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, err
	}
	life := lifetime(r.Spec.ExpirationSeconds)
	begin, end := now.Add(-backdate), now.Add(life)
	if life >= brief {
		end = end.Add(-backdate)
	}
	if end.After(authority.Cert.NotAfter) {
		end = authority.Cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: req.Subject, DNSNames: req.DNSNames, IPAddresses: req.IPAddresses,
		EmailAddresses: req.EmailAddresses, URIs: req.URIs, NotBefore: begin, NotAfter: end,
		KeyUsage: usage, ExtKeyUsage: extended, BasicConstraintsValid: true,
	}
	return x509.CreateCertificate(rand.Reader, template, authority.Cert, req.PublicKey, authority.Key)
}

// lifetime is what was asked for, within bounds.
func lifetime(seconds *int32) time.Duration {
	if seconds == nil {
		return longest
	}
	return min(longest, max(shortest, time.Duration(*seconds)*time.Second))
}

// usagesOf translates usages into those of X.509.
func usagesOf(usages []certificatesv1.KeyUsage) (x509.KeyUsage, []x509.ExtKeyUsage, error) {
	var usage x509.KeyUsage
	var extended []x509.ExtKeyUsage
	simple, ext := simpleUsages(), extendedUsages()
	for _, u := range usages {
		s, isSimple := simple[u]
		e, isExtended := ext[u]
		switch {
		case isSimple:
			usage |= s
		case isExtended:
			extended = append(extended, e)
		default:
			return 0, nil, fmt.Errorf("unrecognized usage %q", u)
		}
	}
	return usage, extended, nil
}

func simpleUsages() map[certificatesv1.KeyUsage]x509.KeyUsage {
	return map[certificatesv1.KeyUsage]x509.KeyUsage{
		certificatesv1.UsageSigning: x509.KeyUsageDigitalSignature, certificatesv1.UsageDigitalSignature: x509.KeyUsageDigitalSignature,
		certificatesv1.UsageContentCommitment: x509.KeyUsageContentCommitment,
		certificatesv1.UsageKeyEncipherment:   x509.KeyUsageKeyEncipherment, certificatesv1.UsageKeyAgreement: x509.KeyUsageKeyAgreement,
		certificatesv1.UsageDataEncipherment: x509.KeyUsageDataEncipherment, certificatesv1.UsageCertSign: x509.KeyUsageCertSign,
		certificatesv1.UsageCRLSign: x509.KeyUsageCRLSign, certificatesv1.UsageEncipherOnly: x509.KeyUsageEncipherOnly,
		certificatesv1.UsageDecipherOnly: x509.KeyUsageDecipherOnly,
	}
}

func extendedUsages() map[certificatesv1.KeyUsage]x509.ExtKeyUsage {
	return map[certificatesv1.KeyUsage]x509.ExtKeyUsage{
		certificatesv1.UsageAny: x509.ExtKeyUsageAny, certificatesv1.UsageServerAuth: x509.ExtKeyUsageServerAuth,
		certificatesv1.UsageClientAuth: x509.ExtKeyUsageClientAuth, certificatesv1.UsageCodeSigning: x509.ExtKeyUsageCodeSigning,
		certificatesv1.UsageEmailProtection: x509.ExtKeyUsageEmailProtection, certificatesv1.UsageSMIME: x509.ExtKeyUsageEmailProtection,
		certificatesv1.UsageIPsecEndSystem: x509.ExtKeyUsageIPSECEndSystem, certificatesv1.UsageIPsecTunnel: x509.ExtKeyUsageIPSECTunnel,
		certificatesv1.UsageIPsecUser: x509.ExtKeyUsageIPSECUser, certificatesv1.UsageTimestamping: x509.ExtKeyUsageTimeStamping,
		certificatesv1.UsageOCSPSigning: x509.ExtKeyUsageOCSPSigning, certificatesv1.UsageMicrosoftSGC: x509.ExtKeyUsageMicrosoftServerGatedCrypto,
		certificatesv1.UsageNetscapeSGC: x509.ExtKeyUsageNetscapeServerGatedCrypto,
	}
}
