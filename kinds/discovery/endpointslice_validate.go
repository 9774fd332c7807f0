// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

// Bounds of a slice.
const (
	maxEndpoints      = 1000
	maxAddresses      = 100
	maxPorts          = 20_000
	maxTopologyLabels = 16
	maxHints          = 8
)

// Controllers whose slices are derived from other objects: they can't mend bad addresses, and get no warnings.
const (
	sliceController  = "endpointslice-controller.k8s.io"
	mirrorController = "endpointslicemirroring-controller.k8s.io"
)

func nodeName(name string) []string { return validation.NameIsDNSSubdomain(name, false) }

func validateEndpointSlice(_ kinds.Request, s *discoveryv1.EndpointSlice) field.ErrorList {
	return append(validateTypeAndPorts(s), validateEndpoints(s, field.NewPath("endpoints"))...)
}

// validateEndpointSliceUpdate leaves endpoints that did not change unjudged.
func validateEndpointSliceUpdate(_ kinds.Request, new, old *discoveryv1.EndpointSlice) field.ErrorList {
	errs := validateTypeAndPorts(new)
	if !equal.Semantic(new.Endpoints, old.Endpoints) {
		errs = append(errs, validateEndpoints(new, field.NewPath("endpoints"))...)
	}
	return append(errs, check.Immutable(new.AddressType, old.AddressType, field.NewPath("addressType"))...)
}

func validateTypeAndPorts(s *discoveryv1.EndpointSlice) field.ErrorList {
	errs := check.OneOf(s.AddressType, field.NewPath("addressType"),
		discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
	path := field.NewPath("ports")
	if len(s.Ports) > maxPorts {
		return append(errs, field.TooMany(path, len(s.Ports), maxPorts))
	}
	seen := map[string]bool{}
	for i, p := range s.Ports {
		at := path.Index(i)
		name := ptr.Deref(p.Name, "")
		if name != "" {
			errs = append(errs, check.Label(name, at.Child("name"))...)
		}
		if seen[name] {
			errs = append(errs, field.Duplicate(at.Child("name"), name))
		}
		seen[name] = true
		protocols := []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}
		if p.Protocol == nil {
			errs = append(errs, field.Required(at.Child("protocol"), ""))
		} else if !slices.Contains(protocols, *p.Protocol) {
			errs = append(errs, field.NotSupported(at.Child("protocol"), *p.Protocol, protocols))
		}
		if p.AppProtocol != nil {
			errs = append(errs, check.QualifiedName(*p.AppProtocol, at.Child("appProtocol"))...)
		}
	}
	return errs
}

func validateEndpoints(s *discoveryv1.EndpointSlice, path *field.Path) field.ErrorList {
	if len(s.Endpoints) > maxEndpoints {
		return field.ErrorList{field.TooMany(path, len(s.Endpoints), maxEndpoints)}
	}
	var errs field.ErrorList
	for i := range s.Endpoints {
		e, at := &s.Endpoints[i], path.Index(i)
		switch n := len(e.Addresses); {
		case n == 0:
			errs = append(errs, field.Required(at.Child("addresses"), "must contain at least 1 address"))
		case n > maxAddresses:
			errs = append(errs, field.TooMany(at.Child("addresses"), n, maxAddresses))
		}
		for k, address := range e.Addresses {
			errs = append(errs, validateAddress(s.AddressType, address, at.Child("addresses"), k)...)
		}
		if e.NodeName != nil {
			errs = append(errs, check.Messages(at.Child("nodeName"), *e.NodeName, nodeName(*e.NodeName))...)
		}
		errs = append(errs, validateTopology(e.DeprecatedTopology, at.Child("deprecatedTopology"))...)
		if e.Hostname != nil {
			errs = append(errs, check.Label(*e.Hostname, at.Child("hostname"))...)
		}
		if e.Hints != nil {
			errs = append(errs, validateHints(e.Hints, at.Child("hints"))...)
		}
	}
	return errs
}

// validateAddress judges one address. That it is of the wrong family is said of the list, as clients have always seen it.
func validateAddress(kind discoveryv1.AddressType, address string, list *field.Path, index int) field.ErrorList {
	path := list.Index(index)
	switch kind {
	case discoveryv1.AddressTypeFQDN:
		return utilvalidation.IsFullyQualifiedDomainName(path, address)
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
	default:
		return nil
	}
	errs := utilvalidation.IsValidIP(path, address)
	if len(errs) > 0 {
		return errs
	}
	if parsed, err := netip.ParseAddr(address); err == nil && parsed.Is4() != (kind == discoveryv1.AddressTypeIPv4) {
		errs = append(errs, field.Invalid(list, address, "must be an "+string(kind)+" address"))
	}
	return append(errs, check.EndpointIP(address, path)...)
}

func validateTopology(topology map[string]string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(topology) > maxTopologyLabels {
		errs = append(errs, field.TooMany(path, len(topology), maxTopologyLabels))
	}
	return append(errs, metav1validation.ValidateLabels(topology, path)...)
}

func validateHints(hints *discoveryv1.EndpointHints, path *field.Path) field.ErrorList {
	zones := make([]string, len(hints.ForZones))
	for i := range hints.ForZones {
		zones[i] = hints.ForZones[i].Name
	}
	nodes := make([]string, len(hints.ForNodes))
	for i := range hints.ForNodes {
		nodes[i] = hints.ForNodes[i].Name
	}
	errs := validateHintNames(zones, path.Child("forZones"), utilvalidation.IsValidLabelValue)
	if len(zones) > maxHints {
		return errs
	}
	return append(errs, validateHintNames(nodes, path.Child("forNodes"), nodeName)...)
}

func validateHintNames(names []string, path *field.Path, rule func(string) []string) field.ErrorList {
	if len(names) > maxHints {
		return field.ErrorList{field.TooMany(path, len(names), maxHints)}
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, name := range names {
		at := path.Index(i).Child("name")
		if seen[name] {
			errs = append(errs, field.Duplicate(at, name))
		}
		seen[name] = true
		errs = append(errs, check.Messages(at, name, rule(name))...)
	}
	return errs
}

// warnEndpointSlice takes a nil old on create.
func warnEndpointSlice(_ kinds.Request, new, old *discoveryv1.EndpointSlice) []string {
	var warnings []string
	if old == nil && new.AddressType == discoveryv1.AddressTypeFQDN {
		warnings = append(warnings, fmt.Sprintf("%s: FQDN endpoints are deprecated", field.NewPath("spec").Child("addressType")))
	}
	if by := new.Labels[discoveryv1.LabelManagedBy]; by == sliceController || by == mirrorController {
		return warnings
	}
	for i := range new.Endpoints {
		for k, address := range new.Endpoints[i].Addresses {
			at := field.NewPath("endpoints").Index(i).Child("addresses").Index(k)
			warnings = append(warnings, utilvalidation.GetWarningsForIP(at, address)...)
		}
	}
	return warnings
}
