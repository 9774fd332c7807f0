// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package csr reads certificate signing requests: what they ask for, whether they are decided, and whether they have the
// form that kubelets' certificates must have.
package csr

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
)

// Names in nodes' certificates.
const (
	NodeGroup  = "system:nodes"
	NodePrefix = "system:node:"
)

// Parse returns the request that the object carries.
func Parse(r *certificatesv1.CertificateSigningRequest) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(r.Spec.Request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}

// Condition returns the condition of a type, or nil.
func Condition(r *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequestCondition {
	for i := range r.Status.Conditions {
		if r.Status.Conditions[i].Type == kind {
			return &r.Status.Conditions[i]
		}
	}
	return nil
}

// Has reports whether the request has the condition at all; approval and denial count whatever their status.
func Has(r *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) bool {
	return Condition(r, kind) != nil
}

// Approved reports whether the request was approved and not denied.
func Approved(r *certificatesv1.CertificateSigningRequest) bool {
	return Has(r, certificatesv1.CertificateApproved) && !Has(r, certificatesv1.CertificateDenied)
}

// Failed reports whether the signer gave up on the request.
func Failed(r *certificatesv1.CertificateSigningRequest) bool {
	c := Condition(r, certificatesv1.CertificateFailed)
	return c != nil && c.Status == corev1.ConditionTrue
}

// JudgeKubeletClient returns why a request is not one for the certificate by which a kubelet identifies itself.
func JudgeKubeletClient(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	switch {
	case !slices.Equal(req.Subject.Organization, []string{NodeGroup}):
		return errors.New("subject organization is not system:nodes")
	case len(req.DNSNames) > 0:
		return errors.New("DNS subjectAltNames are not allowed")
	case len(req.EmailAddresses) > 0:
		return errors.New("Email subjectAltNames are not allowed") //nolint:staticcheck // shown in the request's condition
	case len(req.IPAddresses) > 0:
		return errors.New("IP subjectAltNames are not allowed")
	case len(req.URIs) > 0:
		return errors.New("URI subjectAltNames are not allowed")
	case !strings.HasPrefix(req.Subject.CommonName, NodePrefix):
		return errors.New("subject common name does not begin with system:node:") //nolint:staticcheck // shown in the request's condition
	}
	return judgeUsages(usages, certificatesv1.UsageClientAuth)
}

// JudgeKubeletServing returns why a request is not one for the certificate with which a kubelet serves.
func JudgeKubeletServing(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	switch {
	case !slices.Equal(req.Subject.Organization, []string{NodeGroup}):
		return errors.New("subject organization is not system:nodes")
	case len(req.DNSNames) == 0 && len(req.IPAddresses) == 0:
		return errors.New("DNS or IP subjectAltName is required")
	case len(req.EmailAddresses) > 0:
		return errors.New("Email subjectAltNames are not allowed") //nolint:staticcheck // shown in the request's condition
	case len(req.URIs) > 0:
		return errors.New("URI subjectAltNames are not allowed")
	case !strings.HasPrefix(req.Subject.CommonName, NodePrefix):
		return errors.New("subject common name does not begin with system:node:") //nolint:staticcheck // shown in the request's condition
	}
	return judgeUsages(usages, certificatesv1.UsageServerAuth)
}

// judgeUsages wants digital signature and auth, and allows key encipherment besides, which RSA keys need.
func judgeUsages(usages []certificatesv1.KeyUsage, auth certificatesv1.KeyUsage) error {
	have := map[certificatesv1.KeyUsage]bool{}
	for _, u := range usages {
		have[u] = true
	}
	delete(have, certificatesv1.UsageKeyEncipherment)
	if len(have) != 2 || !have[certificatesv1.UsageDigitalSignature] || !have[auth] {
		wanted := []string{string(auth), string(certificatesv1.UsageDigitalSignature), string(certificatesv1.UsageKeyEncipherment)}
		slices.Sort(wanted)
		return errors.New("usages did not match [" + strings.Join(wanted, " ") + "]")
	}
	return nil
}
