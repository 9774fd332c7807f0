// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"kogge.dev/kogge/kinds"
)

const fixed = "may not change once set"

// ValidateClusterIPs judges what the allocation of addresses relies on, before it: cluster IPs, their families and the policy. old is nil
// for a new Service.
func ValidateClusterIPs(s, old *corev1.Service) field.ErrorList {
	if old == nil {
		old = &corev1.Service{}
	}
	return validateClusterIPs(s, old, field.NewPath("spec"))
}

// validateClusterIPs judges a Service's cluster IPs, their families and the policy, each alone and together.
func validateClusterIPs(s, old *corev1.Service, path *field.Path) field.ErrorList {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil // validateServiceType forbids them all
	}
	ips, at := s.Spec.ClusterIPs, path.Child("clusterIPs")
	var errs field.ErrorList
	switch {
	case s.Spec.ClusterIP == "" && len(ips) > 0:
		errs = append(errs, field.Invalid(at, ips, "must be empty when `clusterIP` is not specified"))
	case s.Spec.ClusterIP != "" && len(ips) == 0:
		errs = append(errs, field.Required(at, ""))
	case s.Spec.ClusterIP != "" && ips[0] != s.Spec.ClusterIP:
		errs = append(errs, field.Invalid(at, ips, "first value must match `clusterIP`"))
	}
	families := path.Child("ipFamilies")
	for i, family := range s.Spec.IPFamilies {
		errs = append(errs, supported(family, families.Index(i), corev1.IPv4Protocol, corev1.IPv6Protocol)...)
		if slices.Contains(s.Spec.IPFamilies[:i], family) {
			errs = append(errs, field.Duplicate(families.Index(i), family))
		}
	}
	if policy := s.Spec.IPFamilyPolicy; policy != nil {
		errs = append(errs, supported(*policy, path.Child("ipFamilyPolicy"), corev1.IPFamilyPolicyPreferDualStack,
			corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack)...)
	}
	bad := validateEachClusterIP(ips, old.Spec.ClusterIPs, at)
	errs = append(errs, bad...)
	if len(ips) > 2 {
		errs = append(errs, field.Invalid(at, ips, "may only hold up to 2 values"))
	}
	if len(bad) > 0 {
		return errs // what follows would only say the same in other words
	}
	return append(errs, validateClusterIPFamilies(s, at)...)
}

func validateEachClusterIP(ips, known []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, ip := range ips {
		if i == 0 && ip == corev1.ClusterIPNone {
			if len(ips) > 1 {
				errs = append(errs, field.Invalid(path, ips, "'None' must be the first and only value"))
			}
			continue
		}
		errs = append(errs, validation.IsValidIPForLegacyField(path.Index(i), ip, true, known)...)
	}
	return errs
}

// validateClusterIPFamilies requires one address of each family at most, in the order of ipFamilies.
func validateClusterIPFamilies(s *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	ips := s.Spec.ClusterIPs
	if len(ips) > 1 {
		dual, err := netutils.IsDualStackIPStrings(ips)
		if err != nil {
			errs = append(errs, field.InternalError(path, fmt.Errorf("failed to check for dual stack with error:%w", err)))
		}
		if !dual {
			errs = append(errs, field.Invalid(path, ips, "may specify no more than one IP for each IP family"))
		}
	}
	if headless(s) {
		return errs
	}
	for i := range min(len(ips), len(s.Spec.IPFamilies)) {
		want := s.Spec.IPFamilies[i]
		got := corev1.IPv4Protocol
		if netutils.IsIPv6String(ips[i]) {
			got = corev1.IPv6Protocol
		}
		if want != got && (want == corev1.IPv4Protocol || want == corev1.IPv6Protocol) {
			errs = append(errs, field.Invalid(path.Index(i), ips[i], fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%v]`", want, i)))
		}
	}
	return errs
}

// validateClusterIPChange lets a second address come and go; the first one stays unless the type becomes or was ExternalName.
func validateClusterIPChange(new, old *corev1.Service) field.ErrorList {
	if new.Spec.Type == corev1.ServiceTypeExternalName || old.Spec.Type == corev1.ServiceTypeExternalName || headless(new) && headless(old) {
		return nil
	}
	var errs field.ErrorList
	ips, before, path := new.Spec.ClusterIPs, old.Spec.ClusterIPs, field.NewPath("spec", "clusterIPs")
	if len(ips) == len(before) {
		for i := range before {
			if before[i] != ips[i] {
				errs = append(errs, field.Invalid(path.Index(i), ips, fixed))
			}
		}
		return errs
	}
	if len(before) > 0 && len(ips) > 0 && ips[0] != before[0] {
		errs = append(errs, field.Invalid(path.Index(0), ips, fixed))
	}
	if len(before) < len(ips) {
		return errs
	}
	if len(ips) == 0 {
		errs = append(errs, field.Invalid(path.Index(0), ips, "primary clusterIP can not be unset"))
	}
	if len(ips) == 1 {
		errs = append(errs, requireSingleStack(new, "clusterIP")...)
	}
	return errs
}

// validateFamilyChange is the same for the families.
func validateFamilyChange(new, old *corev1.Service) field.ErrorList {
	if new.Spec.Type == corev1.ServiceTypeExternalName || old.Spec.Type == corev1.ServiceTypeExternalName || headless(new) || headless(old) {
		return nil
	}
	var errs field.ErrorList
	families, before, path := new.Spec.IPFamilies, old.Spec.IPFamilies, field.NewPath("spec", "ipFamilies").Index(0)
	if len(families) == len(before) {
		for i := range before {
			if before[i] != families[i] {
				errs = append(errs, field.Invalid(path, families, fixed))
			}
		}
		return errs
	}
	if len(before) > len(families) && len(new.Spec.ClusterIPs) == 0 {
		errs = append(errs, field.Invalid(path, families, "primary ipFamily can not be unset"))
	}
	if len(before) > 0 && len(families) > 0 && families[0] != before[0] {
		errs = append(errs, field.Invalid(path, new.Spec.ClusterIPs, fixed))
	}
	if len(before) > len(families) && len(families) == 1 {
		errs = append(errs, requireSingleStack(new, "ipFamily")...)
	}
	return errs
}

// requireSingleStack requires that a client which gives up the second of something says so.
func requireSingleStack(s *corev1.Service, what string) field.ErrorList {
	if policy := s.Spec.IPFamilyPolicy; policy != nil && *policy == corev1.IPFamilyPolicySingleStack {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("spec", "ipFamilyPolicy"), s.Spec.IPFamilyPolicy,
		"must be set to 'SingleStack' when releasing the secondary "+what)}
}

func warnService(_ kinds.Request, s, _ *corev1.Service) []string {
	var warnings []string
	path, spec := field.NewPath("spec"), &s.Spec
	if _, ok := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]; ok {
		warnings = append(warnings, fmt.Sprintf("annotation %s is deprecated, please use %s instead", corev1.DeprecatedAnnotationTopologyAwareHints, corev1.AnnotationTopologyMode))
	}
	if spec.ClusterIP != "" && spec.ClusterIP != corev1.ClusterIPNone {
		for i, ip := range spec.ClusterIPs {
			warnings = append(warnings, validation.GetWarningsForIP(path.Child("clusterIPs").Index(i), ip)...)
		}
	}
	none := spec.Type == corev1.ServiceTypeClusterIP && spec.ClusterIP == corev1.ClusterIPNone
	if none {
		warnings = append(warnings, warnHeadless(spec)...)
	}
	for i, ip := range spec.ExternalIPs {
		warnings = append(warnings, validation.GetWarningsForIP(path.Child("externalIPs").Index(i), ip)...)
	}
	if len(spec.ExternalIPs) > 0 && !none && spec.Type != corev1.ServiceTypeExternalName {
		warnings = append(warnings, "spec.externalIPs is deprecated and may no longer be implemented in some clusters")
	}
	if spec.LoadBalancerIP != "" {
		warnings = append(warnings, validation.GetWarningsForIP(path.Child("loadBalancerIP"), spec.LoadBalancerIP)...)
	}
	for i, cidr := range spec.LoadBalancerSourceRanges {
		warnings = append(warnings, validation.GetWarningsForCIDR(path.Child("loadBalancerSourceRanges").Index(i), cidr)...)
	}
	if spec.Type == corev1.ServiceTypeExternalName && len(spec.ExternalIPs) > 0 {
		warnings = append(warnings, fmt.Sprintf("spec.externalIPs is ignored when spec.type is %q", corev1.ServiceTypeExternalName))
	}
	if spec.Type != corev1.ServiceTypeExternalName && spec.ExternalName != "" {
		warnings = append(warnings, fmt.Sprintf("spec.externalName is ignored when spec.type is not %q", corev1.ServiceTypeExternalName))
	}
	if spec.TrafficDistribution != nil && *spec.TrafficDistribution == corev1.ServiceTrafficDistributionPreferClose {
		warnings = append(warnings, fmt.Sprintf("spec.trafficDistribution: %q is deprecated; use %q", corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone))
	}
	return warnings
}

func warnHeadless(spec *corev1.ServiceSpec) []string {
	var warnings []string
	if spec.LoadBalancerIP != "" {
		warnings = append(warnings, "spec.loadBalancerIP is ignored for headless services")
	}
	if len(spec.ExternalIPs) > 0 {
		warnings = append(warnings, "spec.externalIPs is ignored for headless services")
	}
	if spec.SessionAffinity != corev1.ServiceAffinityNone {
		warnings = append(warnings, "spec.SessionAffinity is ignored for headless services")
	}
	return warnings
}
