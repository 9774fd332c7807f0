// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/objectmeta"
)

func validateEndpoints(_ kinds.Request, e *corev1.Endpoints) field.ErrorList {
	var errs field.ErrorList
	for i := range e.Subsets {
		errs = append(errs, validateSubset(&e.Subsets[i], field.NewPath("subsets").Index(i))...)
	}
	return errs
}

// validateEndpointsUpdate overlooks what is wrong with subsets that do not change: older servers stored such.
func validateEndpointsUpdate(req kinds.Request, new, old *corev1.Endpoints) field.ErrorList {
	errs := validateEndpoints(req, new)
	if len(errs) > 0 && equal.Semantic(new.Subsets, old.Subsets) {
		return nil
	}
	return errs
}

func validateSubset(subset *corev1.EndpointSubset, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(subset.Addresses) == 0 && len(subset.NotReadyAddresses) == 0 {
		errs = append(errs, field.Required(path, "must specify `addresses` or `notReadyAddresses`"))
	}
	for i := range subset.Addresses {
		errs = append(errs, validateEndpointAddress(&subset.Addresses[i], path.Child("addresses").Index(i))...)
	}
	for i := range subset.NotReadyAddresses {
		errs = append(errs, validateEndpointAddress(&subset.NotReadyAddresses[i], path.Child("notReadyAddresses").Index(i))...)
	}
	for i := range subset.Ports {
		at, port := path.Child("ports").Index(i), &subset.Ports[i]
		if port.Name == "" && len(subset.Ports) > 1 {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		errs = append(errs, validateEndpointPort(port, at)...)
	}
	return errs
}

func validateEndpointAddress(address *corev1.EndpointAddress, path *field.Path) field.ErrorList {
	errs := validation.IsValidIPForLegacyField(path.Child("ip"), address.IP, true, nil)
	if address.Hostname != "" {
		errs = append(errs, check.Label(address.Hostname, path.Child("hostname"))...)
	}
	if address.NodeName != nil {
		errs = append(errs, check.Messages(path.Child("nodeName"), *address.NodeName, objectmeta.Subdomain(*address.NodeName, false))...)
	}
	return append(errs, validateEndpointIP(address.IP, path.Child("ip"))...)
}

// validateEndpointIP refuses addresses that traffic may not be led to.
func validateEndpointIP(text string, path *field.Path) field.ErrorList {
	ip := netutils.ParseIPSloppy(text)
	if ip == nil {
		return field.ErrorList{field.Invalid(path, text, "must be a valid IP address")}
	}
	var errs field.ErrorList
	if ip.IsUnspecified() {
		errs = append(errs, field.Invalid(path, text, fmt.Sprintf("may not be unspecified (%v)", text)))
	}
	if ip.IsLoopback() {
		errs = append(errs, field.Invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
	}
	if ip.IsLinkLocalUnicast() {
		errs = append(errs, field.Invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
	}
	if ip.IsLinkLocalMulticast() {
		errs = append(errs, field.Invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"))
	}
	return errs
}

func validateEndpointPort(port *corev1.EndpointPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if port.Name != "" {
		errs = append(errs, check.Label(port.Name, path.Child("name"))...)
	}
	errs = append(errs, check.Messages(path.Child("port"), port.Port, validation.IsValidPortNum(int(port.Port)))...)
	errs = append(errs, check.OneOf(port.Protocol, path.Child("protocol"), corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)...)
	if port.AppProtocol != nil {
		errs = append(errs, check.QualifiedName(*port.AppProtocol, path.Child("appProtocol"))...)
	}
	return errs
}

// warnEndpoints warns of addresses in unusual notation, but not the controller, which has no one to read warnings.
func warnEndpoints(_ kinds.Request, e, _ *corev1.Endpoints) []string {
	if e.Labels["endpoints.kubernetes.io/managed-by"] == "endpoint-controller" {
		return nil
	}
	var warnings []string
	for i, subset := range e.Subsets {
		path := field.NewPath("subsets").Index(i)
		for j, address := range subset.Addresses {
			warnings = append(warnings, validation.GetWarningsForIP(path.Child("addresses").Index(j).Child("ip"), address.IP)...)
		}
		for j, address := range subset.NotReadyAddresses {
			warnings = append(warnings, validation.GetWarningsForIP(path.Child("notReadyAddresses").Index(j).Child("ip"), address.IP)...)
		}
	}
	return warnings
}
