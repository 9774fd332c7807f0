// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package vapstatus_test

import (
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

// TestPolicyIsObserved makes a policy and waits for its status.
func TestPolicyIsObserved(t *testing.T) {
	c := testcluster.New(t).Admin()
	_, err := client.Of[*admissionregistrationv1.ValidatingAdmissionPolicy](c).Create(t.Context(), &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "few"},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			Validations: []admissionregistrationv1.Validation{{Expression: "object.spec.replicas < 5"}},
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}},
				},
			}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "", 10*time.Second, func(all []*admissionregistrationv1.ValidatingAdmissionPolicy) bool {
		return len(all) == 1 && all[0].Status.ObservedGeneration == all[0].Generation && all[0].Status.TypeChecking != nil
	})
}
