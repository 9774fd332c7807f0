// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/internal/equal"
)

// mayForSigner asks for a verb on the signer by name, and then on all signers of its domain.
func mayForSigner(ctx context.Context, z authz.Authorizer, a *admission.Attributes, verb, signer string) bool {
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		decision, _, err := z.Authorize(ctx, &authz.Attributes{
			User: a.User, ResourceRequest: true, Verb: verb, APIGroup: certificatesv1.GroupName, APIVersion: "*", Resource: "signers", Name: name,
		})
		if err == nil && decision == authz.Allow {
			return true
		}
	}
	return false
}

// certificateApproval lets only those approve that may approve for the signer.
type certificateApproval struct{ authorizer authz.Authorizer }

// Validate implements admission.Validator.
func (p certificateApproval) Validate(ctx context.Context, a *admission.Attributes) error {
	if !a.Is(certificatesv1.GroupName, "certificatesigningrequests", "approval") || a.Operation != admission.Update {
		return nil
	}
	csr, ok := admission.Old[*certificatesv1.CertificateSigningRequest](a)
	if !ok {
		return admission.Forbiddenf(a, "expected type CertificateSigningRequest, got: %T", a.Old)
	}
	if !mayForSigner(ctx, p.authorizer, a, "approve", csr.Spec.SignerName) {
		return admission.Forbiddenf(a, "user not permitted to approve requests with signerName %q", csr.Spec.SignerName)
	}
	return nil
}

// certificateSigning lets only those set a certificate or conditions that may sign for the signer.
type certificateSigning struct{ authorizer authz.Authorizer }

// Validate implements admission.Validator.
func (p certificateSigning) Validate(ctx context.Context, a *admission.Attributes) error {
	if !a.Is(certificatesv1.GroupName, "certificatesigningrequests", "status") || a.Operation != admission.Update {
		return nil
	}
	old, ok1 := admission.Old[*certificatesv1.CertificateSigningRequest](a)
	csr, ok2 := admission.Object[*certificatesv1.CertificateSigningRequest](a)
	if !ok1 || !ok2 {
		return admission.Forbiddenf(a, "expected type CertificateSigningRequest, got: %T", a.Object)
	}
	if bytes.Equal(old.Status.Certificate, csr.Status.Certificate) && equal.Semantic(old.Status.Conditions, csr.Status.Conditions) {
		return nil
	}
	if !mayForSigner(ctx, p.authorizer, a, "sign", old.Spec.SignerName) {
		return admission.Forbiddenf(a, "user not permitted to sign requests with signerName %q", old.Spec.SignerName)
	}
	return nil
}

// certificateSubject keeps system:masters out of client certificates that are signed on request.
type certificateSubject struct{}

// Validate implements admission.Validator.
func (certificateSubject) Validate(_ context.Context, a *admission.Attributes) error {
	if !a.Is(certificatesv1.GroupName, "certificatesigningrequests") || a.Operation != admission.Create {
		return nil
	}
	csr, ok := admission.Object[*certificatesv1.CertificateSigningRequest](a)
	if !ok || csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	req, err := parseCSR(csr.Spec.Request)
	if err != nil {
		return admission.Forbiddenf(a, "failed to parse CSR: %w", err)
	}
	if slices.Contains(req.Subject.Organization, request.GroupMasters) {
		return admission.Forbiddenf(a, "use of %s signer with system:masters group is not allowed", certificatesv1.KubeAPIServerClientSignerName)
	}
	return nil
}

func parseCSR(data []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}
