// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package certificates describes the kinds of the certificates.k8s.io API group.
package certificates

import (
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind { return []*kinds.Kind{signingRequest()} }

func signingRequest() *kinds.Kind {
	doc := certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()
	return kinds.Define(kinds.Kind{
		Resource:     "certificatesigningrequests",
		Singular:     "certificatesigningrequest",
		Reset:        map[string][]string{"": {"spec", "status"}, "status": {"spec", "status.conditions"}, "approval": {"spec", "status.certificate"}},
		ShortNames:   []string{"csr"},
		NoGeneration: true,
		ValidateName: func(string, bool) []string { return nil },
		Storage:      kinds.Storage{Prefix: "certificatesigningrequests"},
		Subresources: []kinds.Subresource{
			{
				Name:     "approval",
				Verbs:    []string{"get", "patch", "update"},
				Prepare:  kinds.Pair(prepareApproval),
				Validate: kinds.Judge(validateApproval),
			},
			kinds.Status(prepareStatus, validateStatus),
		},
	}, certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest"),
		func() *certificatesv1.CertificateSigningRequest { return &certificatesv1.CertificateSigningRequest{} },
		func() runtime.Object { return &certificatesv1.CertificateSigningRequestList{} },
		kinds.Strategy[*certificatesv1.CertificateSigningRequest]{
			PrepareCreate: prepareCreate,
			PrepareUpdate: func(_ kinds.Request, new, old *certificatesv1.CertificateSigningRequest) {
				new.Spec, new.Status = old.Spec, old.Status
			},
			Validate:       validate,
			ValidateUpdate: validateUpdate,
			Fields: func(r *certificatesv1.CertificateSigningRequest) fields.Set {
				return fields.Set{"spec.signerName": r.Spec.SignerName}
			},
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Age(),
				table.Text("SignerName", doc["signerName"]),
				table.Text("Requestor", doc["request"]),
				table.Text("RequestedDuration", doc["expirationSeconds"]),
				table.Text("Condition", certificatesv1beta1.CertificateSigningRequestStatus{}.SwaggerDoc()["conditions"]),
			},
			Row: row,
		})
}

// prepareCreate writes who asks: signers trust these fields.
func prepareCreate(req kinds.Request, r *certificatesv1.CertificateSigningRequest) {
	r.Spec.Username, r.Spec.UID, r.Spec.Groups = req.User, req.UID, req.Groups
	r.Spec.Extra = nil
	for key, values := range req.Extra {
		if r.Spec.Extra == nil {
			r.Spec.Extra = map[string]certificatesv1.ExtraValue{}
		}
		r.Spec.Extra[key] = values
	}
	r.Status = certificatesv1.CertificateSigningRequestStatus{Conditions: []certificatesv1.CertificateSigningRequestCondition{}}
}

// prepareStatus lets a signer write the certificate and its own conditions, never the approval.
func prepareStatus(req kinds.Request, new, old *certificatesv1.CertificateSigningRequest) {
	new.Spec = old.Spec
	keepConditions(new, old, certificatesv1.CertificateApproved)
	keepConditions(new, old, certificatesv1.CertificateDenied)
	stampConditions(req.Now, new, old)
}

// prepareApproval lets an approver write conditions only.
func prepareApproval(req kinds.Request, new, old *certificatesv1.CertificateSigningRequest) {
	stampConditions(req.Now, new, old)
	conditions := new.Status.Conditions
	new.Spec, new.Status = old.Spec, old.Status
	new.Status.Conditions = conditions
}

// keepConditions restores conditions of one type where there are as many as before; validation refuses other changes.
func keepConditions(new, old *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) {
	is, was := conditionIndexes(new, t), conditionIndexes(old, t)
	if len(is) != len(was) {
		return
	}
	for i := range was {
		new.Status.Conditions[is[i]] = old.Status.Conditions[was[i]]
	}
}

func conditionIndexes(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) []int {
	var out []int
	for i := range r.Status.Conditions {
		if r.Status.Conditions[i].Type == t {
			out = append(out, i)
		}
	}
	return out
}

// stampConditions fills the times that the writer left out.
func stampConditions(now metav1.Time, new, old *certificatesv1.CertificateSigningRequest) {
	for i := range new.Status.Conditions {
		c := &new.Status.Conditions[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = now
		}
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = now
		for _, before := range old.Status.Conditions {
			if before.Type == c.Type && before.Status == c.Status && !before.LastTransitionTime.IsZero() {
				c.LastTransitionTime = before.LastTransitionTime
				break
			}
		}
	}
}

func row(r *certificatesv1.CertificateSigningRequest, now time.Time) []any {
	signer, lifetime := table.None, table.None
	if r.Spec.SignerName != "" {
		signer = r.Spec.SignerName
	}
	if r.Spec.ExpirationSeconds != nil {
		lifetime = duration.HumanDuration(time.Duration(*r.Spec.ExpirationSeconds) * time.Second)
	}
	return []any{r.Name, table.Since(r.CreationTimestamp, now), signer, r.Spec.Username, lifetime, state(r)}
}

func state(r *certificatesv1.CertificateSigningRequest) string {
	has := func(t certificatesv1.RequestConditionType) bool { return len(conditionIndexes(r, t)) > 0 }
	text := "Pending"
	switch {
	case has(certificatesv1.CertificateDenied):
		text = "Denied"
	case has(certificatesv1.CertificateApproved):
		text = "Approved"
	}
	if has(certificatesv1.CertificateFailed) {
		text += ",Failed"
	}
	if len(r.Status.Certificate) > 0 {
		text += ",Issued"
	}
	return text
}
