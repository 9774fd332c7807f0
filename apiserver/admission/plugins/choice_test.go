// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/admission/admissiontest"
	"kogge.dev/kogge/apiserver/admission/configured"
	"kogge.dev/kogge/apiserver/admission/eventratelimit"
	"kogge.dev/kogge/apiserver/admission/versions"
	"kogge.dev/kogge/apiserver/aggregation/outcall"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/authz/rbac"
	"kogge.dev/kogge/expr"
	"kogge.dev/kogge/kinds"
)

func TestChoice(t *testing.T) {
	all := []admission.Plugin{{Name: "LimitRanger"}, {Name: "EventRateLimit"}, {Name: "DenyServiceExternalIPs"}, {Name: "PodSecurity"}}
	for _, test := range []struct {
		choice       Choice
		want, refuse string
	}{
		{Choice{}, "LimitRanger PodSecurity", ""},
		{Choice{Enabled: []string{"EventRateLimit", "PodSecurity"}}, "LimitRanger EventRateLimit PodSecurity", ""},
		{Choice{Enabled: []string{"DenyServiceExternalIPs"}, Disabled: []string{"LimitRanger"}}, "DenyServiceExternalIPs PodSecurity", ""},
		{Choice{Enabled: []string{"NodeRestrictions"}}, "", `admission plugin "NodeRestrictions" is not one of LimitRanger, EventRateLimit, DenyServiceExternalIPs, PodSecurity`},
		{Choice{Enabled: []string{"PodSecurity"}, Disabled: []string{"PodSecurity"}}, "", `admission plugin "PodSecurity" is both enabled and disabled`},
		{Choice{Disabled: []string{"AlwaysPullImages", "JobValidation"}}, "LimitRanger PodSecurity", ""},
		{Choice{Enabled: []string{"PodGroupProtection", "ClusterTrustBundleAttest"}}, "LimitRanger PodSecurity", ""},
		{Choice{Enabled: []string{"PodNodeSelector"}}, "", `admission plugin "PodNodeSelector" is not part of kogge; a policy or webhook can do what it does`},
		{Choice{Enabled: []string{"JobValidation"}, Disabled: []string{"JobValidation"}}, "", `admission plugin "JobValidation" is both enabled and disabled`},
	} {
		pick := picker{Choice: test.choice}
		on := pick.of(all)
		if err := pick.check(); err != nil || test.refuse != "" {
			if err == nil || err.Error() != test.refuse {
				t.Errorf("%+v: %v, want %q", test.choice, err, test.refuse)
			}
			continue
		}
		var got []string
		for _, p := range on {
			got = append(got, p.Name)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%+v: %q, want %q", test.choice, got, test.want)
		}
	}
}

// upstreamPlugins are those that kube-apiserver v1.36 lists for --enable-admission-plugins.
const upstreamPlugins = `AlwaysAdmit NamespaceAutoProvision NamespaceLifecycle NamespaceExists LimitPodHardAntiAffinityTopology LimitRanger ServiceAccount
NodeRestriction TaintNodesByCondition AlwaysPullImages ImagePolicyWebhook PodSecurity PodNodeSelector Priority DefaultTolerationSeconds
PodTolerationRestriction EventRateLimit ExtendedResourceToleration DefaultStorageClass StorageObjectInUseProtection PodGroupProtection
OwnerReferencesPermissionEnforcement PersistentVolumeClaimResize RuntimeClass CertificateApproval CertificateSigning ClusterTrustBundleAttest
CertificateSubjectRestriction DefaultIngressClass DenyServiceExternalIPs PodTopologyLabels PodGroupWorkloadExists NodeDeclaredFeatureValidator JobValidation
PodResizeValidator MutatingAdmissionPolicy MutatingAdmissionWebhook ValidatingAdmissionPolicy ValidatingAdmissionWebhook ResourceQuota AlwaysDeny`

func TestEveryPluginOfUpstreamCanBeDisabled(t *testing.T) {
	reader := admissiontest.NewReader()
	roles := rbac.New(reader)
	left, err := Default(Config{
		Reader: reader, Authorizer: authz.Chain{roles}, RBAC: roles, Calls: outcall.New(nil), Compiler: expr.NewCompiler(),
		Versions:    &versions.Converter{Lookup: func(schema.GroupResource) *kinds.Kind { return nil }},
		UpdateQuota: func(context.Context, *corev1.ResourceQuota) error { return nil },
		Choice:      Choice{Disabled: strings.Fields(upstreamPlugins)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 || left[0].Name != "RoleEscalation" {
		t.Errorf("%d plugins are left, want the one that is none upstream", len(left))
	}
}

func TestEventRateLimitNeedsLimits(t *testing.T) {
	c := Choice{Enabled: []string{eventratelimit.Name}}
	if _, err := c.eventRates(); err == nil {
		t.Error("EventRateLimit is on without a configuration")
	}
	c.Configured = configured.Plugins{EventRateLimit: &eventratelimit.Configuration{Limits: []eventratelimit.Limit{{Type: eventratelimit.Server, QPS: 1, Burst: 1}}}}
	if p, err := c.eventRates(); err != nil || p == nil {
		t.Errorf("eventRates() = %v, %v", p, err)
	}
}
