// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/core"
)

func policyOf(svc *corev1.Service) corev1.IPFamilyPolicy {
	if svc.Spec.IPFamilyPolicy == nil {
		return ""
	}
	return *svc.Spec.IPFamilyPolicy
}

// keepsDualStackAsIs tells updates of PreferDualStack Services that do not touch addresses: the cluster may have gained or lost a
// family since, and they keep what they have.
func keepsDualStackAsIs(svc, old *corev1.Service) bool {
	return old != nil && svc.Spec.Type == old.Spec.Type && svc.Spec.Type != corev1.ServiceTypeExternalName &&
		policyOf(svc) == corev1.IPFamilyPolicyPreferDualStack && policyOf(old) == corev1.IPFamilyPolicyPreferDualStack &&
		slices.Equal(svc.Spec.ClusterIPs, old.Spec.ClusterIPs) && slices.Equal(svc.Spec.IPFamilies, old.Spec.IPFamilies)
}

// chooseFamilies completes ipFamilyPolicy and ipFamilies from what the client set and what the cluster has.
func (s *services) chooseFamilies(svc, old *corev1.Service) error {
	if svc.Spec.Type == corev1.ServiceTypeExternalName || keepsDualStackAsIs(svc, old) {
		return nil
	}
	selectorless := headless(svc) && len(svc.Spec.Selector) == 0
	if svc.Spec.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicySingleStack
		switch {
		case old != nil && old.Spec.IPFamilyPolicy != nil:
			policy = *old.Spec.IPFamilyPolicy
		case selectorless:
			policy = corev1.IPFamilyPolicyRequireDualStack
		}
		svc.Spec.IPFamilyPolicy = &policy
	}
	if errs := core.ValidateClusterIPs(svc, old); len(errs) > 0 {
		return invalidService(svc, errs...)
	}
	if errs := fitPolicy(svc, old); len(errs) > 0 {
		return invalidService(svc, errs...)
	}
	if errs := s.inferFamilies(svc); len(errs) > 0 {
		return invalidService(svc, errs...)
	}
	if selectorless {
		if len(svc.Spec.IPFamilies) == 0 {
			svc.Spec.IPFamilies = []corev1.IPFamily{s.families[0]}
		}
		if len(svc.Spec.IPFamilies) == 1 && policyOf(svc) != corev1.IPFamilyPolicySingleStack {
			svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, other(svc.Spec.IPFamilies[0]))
		}
		return nil
	}
	return s.completeFamilies(svc)
}

// fitPolicy drops the second address where the policy became single-stack, and refuses combinations that contradict it.
func fitPolicy(svc, old *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec", "ipFamilyPolicy")
	single := policyOf(svc) == corev1.IPFamilyPolicySingleStack
	if old != nil && single {
		if slices.Equal(svc.Spec.ClusterIPs, old.Spec.ClusterIPs) && len(svc.Spec.ClusterIPs) > 1 {
			svc.Spec.ClusterIPs = svc.Spec.ClusterIPs[:1:1]
		}
		if slices.Equal(svc.Spec.IPFamilies, old.Spec.IPFamilies) && len(svc.Spec.IPFamilies) > 1 {
			svc.Spec.IPFamilies = svc.Spec.IPFamilies[:1:1]
		}
	}
	if old != nil && !single {
		if n := len(svc.Spec.ClusterIPs); n > 0 && n < len(old.Spec.ClusterIPs) {
			errs = append(errs, field.Invalid(path, svc.Spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary cluster IP"))
		}
		if n := len(svc.Spec.IPFamilies); n > 0 && n < len(old.Spec.IPFamilies) {
			errs = append(errs, field.Invalid(path, svc.Spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary IP family"))
		}
	}
	if single && len(svc.Spec.ClusterIPs) == 2 {
		errs = append(errs, field.Invalid(path, svc.Spec.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"))
	}
	if single && len(svc.Spec.IPFamilies) == 2 {
		errs = append(errs, field.Invalid(path, svc.Spec.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"))
	}
	return errs
}

// inferFamilies adds the families of addresses that the client named.
func (s *services) inferFamilies(svc *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	for i, ip := range svc.Spec.ClusterIPs {
		if ip == corev1.ClusterIPNone {
			break
		}
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			break // Validation says what is wrong.
		}
		if i < len(svc.Spec.IPFamilies) {
			continue
		}
		family := familyOf(addr)
		if !s.ranges[family].IsValid() {
			errs = append(errs, field.Invalid(field.NewPath("spec", "clusterIPs").Index(i), svc.Spec.ClusterIPs,
				fmt.Sprintf("%s is not configured on this cluster", family)))
			continue
		}
		svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, family)
	}
	return errs
}

// completeFamilies adds the cluster's default family, and the second one for dual stack.
func (s *services) completeFamilies(svc *corev1.Service) error {
	var errs field.ErrorList
	if policyOf(svc) == corev1.IPFamilyPolicyRequireDualStack && len(s.families) < 2 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "ipFamilyPolicy"), svc.Spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
	}
	for i, family := range svc.Spec.IPFamilies {
		if !s.ranges[family].IsValid() {
			errs = append(errs, field.Invalid(field.NewPath("spec", "ipFamilies").Index(i), family, "not configured on this cluster"))
		}
	}
	if len(errs) > 0 {
		return invalidService(svc, errs...)
	}
	if len(svc.Spec.IPFamilies) == 0 {
		svc.Spec.IPFamilies = []corev1.IPFamily{s.families[0]}
	}
	if policyOf(svc) != corev1.IPFamilyPolicySingleStack && len(svc.Spec.IPFamilies) == 1 && len(s.families) == 2 {
		svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, other(svc.Spec.IPFamilies[0]))
	}
	return nil
}

func other(f corev1.IPFamily) corev1.IPFamily {
	if f == corev1.IPv4Protocol {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}
