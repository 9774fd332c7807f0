// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package certificates

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/diff"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
)

const (
	// legacySigner is the signer of requests that an older version stored without one.
	legacySigner = "kubernetes.io/legacy-unknown"
	// minExpiration is the shortest lifetime that may be asked for, in seconds.
	minExpiration = 600
	// maxSignerName is the length of a domain, a slash, and a name made of a namespace and a service account.
	maxSignerName = 253 + 1 + 253 + 1 + 63
)

// scope says which parts of a request an update may write.
type scope int

const (
	scopeMain scope = iota
	scopeStatus
	scopeApproval
)

func usages() []certificatesv1.KeyUsage {
	return []certificatesv1.KeyUsage{
		certificatesv1.UsageAny, certificatesv1.UsageCertSign, certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning,
		certificatesv1.UsageContentCommitment, certificatesv1.UsageCRLSign, certificatesv1.UsageDataEncipherment,
		certificatesv1.UsageDecipherOnly, certificatesv1.UsageDigitalSignature, certificatesv1.UsageEmailProtection,
		certificatesv1.UsageEncipherOnly, certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel,
		certificatesv1.UsageIPsecUser, certificatesv1.UsageKeyAgreement, certificatesv1.UsageKeyEncipherment,
		certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC, certificatesv1.UsageOCSPSigning,
		certificatesv1.UsageSMIME, certificatesv1.UsageServerAuth, certificatesv1.UsageSigning, certificatesv1.UsageTimestamping,
	}
}

func validate(_ kinds.Request, r *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateRequest(r, nil)
}

func validateUpdate(_ kinds.Request, new, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateChange(new, old, scopeMain)
}

func validateStatus(_ kinds.Request, new, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateChange(new, old, scopeStatus)
}

func validateApproval(_ kinds.Request, new, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateChange(new, old, scopeApproval)
}

// validateRequest judges a whole request. What old breaks already stays allowed; old is nil on create.
func validateRequest(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if err := checkRequest(r.Spec.Request); err != nil {
		errs = append(errs, field.Invalid(path.Child("request"), r.Spec.Request, err.Error()))
	}
	errs = append(errs, validateUsages(r, old, path.Child("usages"))...)
	tolerated := old != nil && old.Spec.SignerName == legacySigner
	if r.Spec.SignerName == legacySigner && !tolerated {
		errs = append(errs, field.Invalid(path.Child("signerName"), r.Spec.SignerName, "the legacy signerName is not allowed via this API version"))
	} else {
		errs = append(errs, validateSigner(r.Spec.SignerName, path.Child("signerName"))...)
	}
	if s := r.Spec.ExpirationSeconds; s != nil && *s < minExpiration {
		errs = append(errs, field.Invalid(path.Child("expirationSeconds"), *s, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	errs = append(errs, validateConditions(r, old, field.NewPath("status", "conditions"))...)
	unjudged := old != nil && (bytes.Equal(r.Status.Certificate, old.Status.Certificate) || checkCertificates(old.Status.Certificate) != nil)
	if err := checkCertificates(r.Status.Certificate); err != nil && !unjudged {
		errs = append(errs, field.Invalid(field.NewPath("status", "certificate"), "<certificate data>", err.Error()))
	}
	return errs
}

func checkRequest(encoded []byte) error {
	block, _ := pem.Decode(encoded)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	return request.CheckSignature()
}

func checkCertificates(encoded []byte) error {
	if len(encoded) == 0 {
		return nil
	}
	for found := 0; ; found++ {
		block, rest := pem.Decode(encoded)
		switch {
		case block == nil && found == 0:
			return errors.New("must contain at least one CERTIFICATE PEM block")
		case block == nil:
			return nil
		case block.Type != "CERTIFICATE":
			return fmt.Errorf("only CERTIFICATE PEM blocks are allowed, found %q", block.Type)
		case len(block.Headers) != 0:
			return errors.New("no PEM block headers are permitted")
		}
		certificates, err := x509.ParseCertificates(block.Bytes)
		if err != nil {
			return err
		}
		if len(certificates) == 0 {
			return errors.New("found CERTIFICATE PEM block containing 0 certificates")
		}
		encoded = rest
	}
}

func validateUsages(r, old *certificatesv1.CertificateSigningRequest, path *field.Path) field.ErrorList {
	if len(r.Spec.Usages) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	unknown, twice := judgeUsages(r.Spec.Usages, path)
	var errs field.ErrorList
	if old != nil {
		oldUnknown, oldTwice := judgeUsages(old.Spec.Usages, path)
		if len(oldUnknown) > 0 {
			unknown = nil
		}
		if len(oldTwice) > 0 {
			twice = nil
		}
	}
	return append(append(errs, unknown...), twice...)
}

func judgeUsages(list []certificatesv1.KeyUsage, path *field.Path) (unknown, twice field.ErrorList) {
	known := map[certificatesv1.KeyUsage]bool{}
	for _, u := range usages() {
		known[u] = true
	}
	seen := map[certificatesv1.KeyUsage]bool{}
	for i, u := range list {
		if !known[u] {
			unknown = append(unknown, field.NotSupported(path.Index(i), u, usages()))
		}
		if seen[u] {
			twice = append(twice, field.Duplicate(path.Index(i), u))
		}
		seen[u] = true
	}
	return unknown, twice
}

// validateSigner judges a signer's name: a domain with at least two parts, and a path.
func validateSigner(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	domain, rest, found := strings.Cut(name, "/")
	if !found || strings.Contains(rest, "/") {
		return append(errs, field.Invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'"))
	}
	if len(domain) > utilvalidation.DNS1123SubdomainMaxLength {
		errs = append(errs, field.TooLong(path, "", utilvalidation.DNS1123SubdomainMaxLength))
	}
	errs = append(errs, validateLabels(domain, utilvalidation.IsDNS1123Label, path)...)
	if !strings.Contains(domain, ".") {
		errs = append(errs, field.Invalid(path, domain, "should be a domain with at least two segments separated by dots"))
	}
	errs = append(errs, validateLabels(rest, utilvalidation.IsDNS1123Subdomain, path)...)
	if len(name) > maxSignerName {
		errs = append(errs, field.TooLong(path, "", maxSignerName))
	}
	return errs
}

// validateLabels judges the parts of a dotted name up to the first wrong one.
func validateLabels(name string, rule func(string) []string, path *field.Path) field.ErrorList {
	for label := range strings.SplitSeq(name, ".") {
		var errs field.ErrorList
		for _, msg := range rule(label) {
			errs = append(errs, field.Invalid(path, name, fmt.Sprintf("validating label %q: %s", label, msg)))
		}
		if len(errs) > 0 {
			return errs
		}
	}
	return nil
}

func validateConditions(r, old *certificatesv1.CertificateSigningRequest, path *field.Path) field.ErrorList {
	var tolerate conditionFaults
	if old != nil {
		tolerate = faultsOf(old)
	}
	all := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
	var errs field.ErrorList
	seen := map[certificatesv1.RequestConditionType]bool{}
	for i, c := range r.Status.Conditions {
		at := path.Index(i)
		if c.Type == "" && !tolerate.untyped {
			errs = append(errs, field.Required(at.Child("type"), ""))
		}
		allowed := all
		other := certificatesv1.RequestConditionType("")
		switch c.Type {
		case certificatesv1.CertificateApproved:
			allowed, other = all[1:2], certificatesv1.CertificateDenied
		case certificatesv1.CertificateDenied:
			allowed, other = all[1:2], certificatesv1.CertificateApproved
		case certificatesv1.CertificateFailed:
			allowed = all[1:2]
		}
		errs = append(errs, validateConditionStatus(c.Status, allowed, at.Child("status"))...)
		if other != "" && seen[other] && !tolerate.both {
			errs = append(errs, field.Invalid(path, c.Type, "Approved and Denied conditions are mutually exclusive"))
		}
		if seen[c.Type] && !tolerate.twice {
			errs = append(errs, field.Duplicate(at.Child("type"), c.Type))
		}
		seen[c.Type] = true
	}
	return errs
}

func validateConditionStatus(status corev1.ConditionStatus, allowed []corev1.ConditionStatus, path *field.Path) field.ErrorList {
	if status == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if slices.Contains(allowed, status) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, status, allowed)}
}

// conditionFaults are the faults that stored conditions may have from older versions.
type conditionFaults struct{ untyped, twice, both bool }

func faultsOf(r *certificatesv1.CertificateSigningRequest) conditionFaults {
	var out conditionFaults
	seen := map[certificatesv1.RequestConditionType]bool{}
	for _, c := range r.Status.Conditions {
		out.untyped = out.untyped || c.Type == ""
		out.twice = out.twice || seen[c.Type]
		seen[c.Type] = true
	}
	out.both = seen[certificatesv1.CertificateApproved] && seen[certificatesv1.CertificateDenied]
	return out
}

func conditionsOf(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) []certificatesv1.CertificateSigningRequestCondition {
	var out []certificatesv1.CertificateSigningRequestCondition
	for _, i := range conditionIndexes(r, t) {
		out = append(out, r.Status.Conditions[i])
	}
	return out
}

func validateChange(new, old *certificatesv1.CertificateSigningRequest, by scope) field.ErrorList {
	errs := validateRequest(new, old)
	path := field.NewPath("status", "conditions")
	for _, t := range []certificatesv1.RequestConditionType{
		certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed,
	} {
		was, is := conditionsOf(old, t), conditionsOf(new, t)
		switch {
		case len(is) < len(was):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not remove a condition of type %q", t)))
		case by == scopeApproval || t == certificatesv1.CertificateFailed:
		case len(is) > len(was):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not add a condition of type %q", t)))
		case !equal.Semantic(was, is):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not modify a condition of type %q\n%v", t, diff.Diff(was, is))))
		}
	}
	if bytes.Equal(new.Status.Certificate, old.Status.Certificate) {
		return errs
	}
	at := field.NewPath("status", "certificate")
	switch {
	case by != scopeStatus:
		errs = append(errs, field.Forbidden(at, "updates may not set certificate content"))
	case len(old.Status.Certificate) > 0:
		errs = append(errs, field.Forbidden(at, "updates may not modify existing certificate content"))
	}
	return errs
}
