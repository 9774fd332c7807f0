// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/objectmeta"
	"kogge.dev/kogge/kinds/podspec"
)

const onlyLoadBalancer = "may only be used when `type` is 'LoadBalancer'"

func validateService(_ kinds.Request, s *corev1.Service) field.ErrorList {
	return validateServiceSpec(s, &corev1.Service{})
}

func validateServiceUpdate(_ kinds.Request, new, old *corev1.Service) field.ErrorList {
	errs := validateClusterIPChange(new, old)
	errs = append(errs, validateFamilyChange(new, old)...)
	if isLoadBalancer(new) && isLoadBalancer(old) && !ptr.Equal(new.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "loadBalancerClass"), new.Spec.LoadBalancerClass, "may not change once set"))
	}
	if hasHealthPort(&new.Spec) && hasHealthPort(&old.Spec) && new.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "healthCheckNodePort"), "field is immutable"))
	}
	return append(errs, validateServiceSpec(new, old)...)
}

// validateServiceSpec judges s; addresses that old has already may be in a notation that is no longer accepted.
func validateServiceSpec(s, old *corev1.Service) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateTopologyAnnotations(s.Annotations, field.NewPath("metadata", "annotations"))
	errs = append(errs, validateServiceType(s, path)...)
	errs = append(errs, validateServicePorts(s, path.Child("ports"))...)
	if s.Spec.Selector != nil {
		errs = append(errs, objectmeta.ValidateLabels(s.Spec.Selector, path.Child("selector"))...)
	}
	errs = append(errs, validateAffinity(&s.Spec, path)...)
	errs = append(errs, validateClusterIPs(s, old, path)...)
	for i, ip := range s.Spec.ExternalIPs {
		at := path.Child("externalIPs").Index(i)
		if bad := validation.IsValidIPForLegacyField(at, ip, true, old.Spec.ExternalIPs); len(bad) > 0 {
			errs = append(errs, bad...)
		} else {
			errs = append(errs, validateEndpointIP(ip, at)...)
		}
	}
	errs = append(errs, check.OneOf(s.Spec.Type, path.Child("type"), corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName,
		corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort)...)
	errs = append(errs, validateNodePorts(s, path.Child("ports"))...)
	errs = append(errs, validateSourceRanges(s, old, path.Child("LoadBalancerSourceRanges"))...)
	errs = append(errs, validateLoadBalancerFields(s, path)...)
	return append(errs, validateTraffic(&s.Spec, path)...)
}

func validateTopologyAnnotations(annotations map[string]string, path *field.Path) field.ErrorList {
	hints, hasHints := annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	mode, hasMode := annotations[corev1.AnnotationTopologyMode]
	if !hasHints || !hasMode || hints == mode {
		return nil
	}
	return field.ErrorList{field.Invalid(path.Key(corev1.AnnotationTopologyMode), mode,
		fmt.Sprintf("must match annotations[%s] when both are specified", corev1.DeprecatedAnnotationTopologyAwareHints))}
}

// validateServiceType judges what the types forbid and require of the other fields.
func validateServiceType(s *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(s.Spec.Ports) == 0 && !headless(s) && s.Spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(path.Child("ports"), ""))
	}
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		if headless(s) {
			errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), s.Spec.ClusterIPs[0],
				fmt.Sprintf("may not be set to 'None' for %s services", s.Spec.Type)))
		}
	case corev1.ServiceTypeExternalName:
		const refused = "may not be set for ExternalName services"
		if len(s.Spec.ClusterIPs) > 0 {
			errs = append(errs, field.Forbidden(path.Child("clusterIPs"), refused))
		}
		if len(s.Spec.IPFamilies) > 0 {
			errs = append(errs, field.Forbidden(path.Child("ipFamilies"), refused))
		}
		if s.Spec.IPFamilyPolicy != nil {
			errs = append(errs, field.Forbidden(path.Child("ipFamilyPolicy"), refused))
		}
		// The name may end in the dot of a fully qualified one.
		if name := strings.TrimSuffix(s.Spec.ExternalName, "."); name == "" {
			errs = append(errs, field.Required(path.Child("externalName"), ""))
		} else {
			errs = append(errs, check.Subdomain(name, path.Child("externalName"))...)
		}
	case corev1.ServiceTypeClusterIP: // may be anything
	}
	return errs
}

func validateServicePorts(s *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i := range s.Spec.Ports {
		at, port := path.Index(i), &s.Spec.Ports[i]
		if port.Name == "" && len(s.Spec.Ports) > 1 {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else if port.Name != "" {
			errs = append(errs, check.Label(port.Name, at.Child("name"))...)
			if names[port.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), port.Name))
			}
			names[port.Name] = true
		}
		errs = append(errs, check.Messages(at.Child("port"), port.Port, validation.IsValidPortNum(int(port.Port)))...)
		errs = append(errs, check.OneOf(port.Protocol, at.Child("protocol"), corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)...)
		errs = append(errs, podspec.ValidatePort(port.TargetPort, at.Child("targetPort"))...)
		if port.AppProtocol != nil {
			errs = append(errs, check.QualifiedName(*port.AppProtocol, at.Child("appProtocol"))...)
		}
	}
	return errs
}

// validateNodePorts refuses node ports where there are none, and ports that are opened twice.
func validateNodePorts(s *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	if s.Spec.Type == corev1.ServiceTypeClusterIP {
		for i, port := range s.Spec.Ports {
			if port.NodePort != 0 {
				errs = append(errs, field.Forbidden(path.Index(i).Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
			}
		}
	}
	nodePorts, ports := map[key]bool{}, map[key]bool{}
	for i, port := range s.Spec.Ports {
		if port.NodePort == 0 {
			continue
		}
		k := key{port.Protocol, port.NodePort}
		if nodePorts[k] {
			errs = append(errs, field.Duplicate(path.Index(i).Child("nodePort"), port.NodePort))
		}
		nodePorts[k] = true
	}
	for i, port := range s.Spec.Ports {
		k := key{port.Protocol, port.Port}
		if ports[k] {
			errs = append(errs, field.Duplicate(path.Index(i), corev1.ServicePort{Protocol: port.Protocol, Port: port.Port}))
		}
		ports[k] = true
	}
	return errs
}

func validateAffinity(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	errs := check.OneOf(spec.SessionAffinity, path.Child("sessionAffinity"), corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	at, config := path.Child("sessionAffinityConfig"), spec.SessionAffinityConfig
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		if config != nil {
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("must not be set when session affinity is %s", corev1.ServiceAffinityNone)))
		}
	case corev1.ServiceAffinityClientIP:
		required := fmt.Sprintf("when session affinity type is %s", corev1.ServiceAffinityClientIP)
		timeout := at.Child("clientIP", "timeoutSeconds")
		switch {
		case config == nil:
			errs = append(errs, field.Required(at, required))
		case config.ClientIP == nil:
			errs = append(errs, field.Required(at.Child("clientIP"), required))
		case config.ClientIP.TimeoutSeconds == nil:
			errs = append(errs, field.Required(timeout, required))
		default:
			if seconds := *config.ClientIP.TimeoutSeconds; seconds <= 0 || seconds > maxAffinitySeconds {
				errs = append(errs, field.Invalid(timeout, config.ClientIP.TimeoutSeconds, fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds)))
			}
		}
	}
	return errs
}

// maxAffinitySeconds is a day.
const maxAffinitySeconds int32 = 86400

func isLoadBalancer(s *corev1.Service) bool { return s.Spec.Type == corev1.ServiceTypeLoadBalancer }

// validateSourceRanges judges the addresses that may use a load balancer, in their field or in the annotation that was
// there before. Spaces around them are allowed, as in the annotation.
func validateSourceRanges(s, old *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	annotation := corev1.AnnotationLoadBalancerSourceRangesKey
	if len(s.Spec.LoadBalancerSourceRanges) > 0 {
		if !isLoadBalancer(s) {
			errs = append(errs, field.Forbidden(path, onlyLoadBalancer))
		}
		var known []string
		for _, cidr := range old.Spec.LoadBalancerSourceRanges {
			known = append(known, strings.TrimSpace(cidr))
		}
		for i, cidr := range s.Spec.LoadBalancerSourceRanges {
			errs = append(errs, validation.IsValidCIDRForLegacyField(path.Index(i), strings.TrimSpace(cidr), true, known)...)
		}
		return errs
	}
	text, ok := s.Annotations[annotation]
	if !ok {
		return nil
	}
	at := field.NewPath("metadata", "annotations").Key(annotation)
	if !isLoadBalancer(s) {
		errs = append(errs, field.Forbidden(at, onlyLoadBalancer))
	}
	if before, had := old.Annotations[annotation]; had && before == text {
		return errs
	}
	if text = strings.TrimSpace(text); text == "" {
		return errs
	}
	for cidr := range strings.SplitSeq(text, ",") {
		errs = append(errs, validation.IsValidCIDRForLegacyField(at, strings.TrimSpace(cidr), true, nil)...)
	}
	return errs
}

func validateLoadBalancerFields(s *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case !isLoadBalancer(s) && s.Spec.AllocateLoadBalancerNodePorts != nil:
		errs = append(errs, field.Forbidden(path.Child("allocateLoadBalancerNodePorts"), onlyLoadBalancer))
	case isLoadBalancer(s) && s.Spec.AllocateLoadBalancerNodePorts == nil:
		errs = append(errs, field.Required(field.NewPath("allocateLoadBalancerNodePorts"), ""))
	}
	if class := s.Spec.LoadBalancerClass; class != nil {
		if isLoadBalancer(s) {
			errs = append(errs, check.QualifiedName(*class, path.Child("loadBalancerClass"))...)
		} else {
			errs = append(errs, field.Forbidden(path.Child("loadBalancerClass"), onlyLoadBalancer))
		}
	}
	return errs
}

func validateTraffic(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	external := path.Child("externalTrafficPolicy")
	if reachableFromOutside(spec) {
		errs = append(errs, check.OneOf(spec.ExternalTrafficPolicy, external, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)...)
	} else if spec.ExternalTrafficPolicy != "" {
		errs = append(errs, field.Invalid(external, spec.ExternalTrafficPolicy, "may only be set for externally-accessible services"))
	}
	health := path.Child("healthCheckNodePort")
	switch port := spec.HealthCheckNodePort; {
	case !hasHealthPort(spec) && port != 0:
		errs = append(errs, field.Invalid(health, port, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	case hasHealthPort(spec) && port == 0:
		errs = append(errs, field.Required(health, ""))
	case hasHealthPort(spec):
		errs = append(errs, check.Messages(health, port, validation.IsValidPortNum(int(port)))...)
	}
	internal := path.Child("internalTrafficPolicy")
	switch {
	case spec.InternalTrafficPolicy == nil && (hasNodePorts(spec) || spec.Type == corev1.ServiceTypeClusterIP):
		errs = append(errs, field.Required(internal, ""))
	case spec.InternalTrafficPolicy != nil:
		errs = append(errs, supported(*spec.InternalTrafficPolicy, internal, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)...)
	}
	if d := spec.TrafficDistribution; d != nil {
		errs = append(errs, supported(*d, path.Child("trafficDistribution"), corev1.ServiceTrafficDistributionPreferClose,
			corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode)...)
	}
	return errs
}

// supported judges an enumeration that may not be empty.
func supported[T ~string](value T, path *field.Path, allowed ...T) field.ErrorList {
	if slices.Contains(allowed, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, allowed)}
}

func validateServiceStatus(_ kinds.Request, new, old *corev1.Service) field.ErrorList {
	path := field.NewPath("status", "loadBalancer", "ingress")
	ingress := new.Status.LoadBalancer.Ingress
	if !isLoadBalancer(new) && len(ingress) > 0 {
		return field.ErrorList{field.Forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")}
	}
	var known []string
	for _, i := range old.Status.LoadBalancer.Ingress {
		known = append(known, i.IP)
	}
	var errs field.ErrorList
	for i := range ingress {
		errs = append(errs, validateIngressPoint(&ingress[i], known, path.Index(i))...)
	}
	return errs
}

func validateIngressPoint(ingress *corev1.LoadBalancerIngress, known []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if ingress.IP != "" {
		errs = append(errs, validation.IsValidIPForLegacyField(path.Child("ip"), ingress.IP, true, known)...)
	}
	mode := path.Child("ipMode")
	switch {
	case ingress.IPMode == nil && ingress.IP != "":
		errs = append(errs, field.Required(mode, "must be specified when `ip` is set"))
	case ingress.IPMode != nil && ingress.IP == "":
		errs = append(errs, field.Forbidden(mode, "may not be specified when `ip` is not set"))
	case ingress.IPMode != nil:
		errs = append(errs, supported(*ingress.IPMode, mode, corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP)...)
	}
	if ingress.Hostname != "" {
		errs = append(errs, check.Subdomain(ingress.Hostname, path.Child("hostname"))...)
		if netutils.ParseIPSloppy(ingress.Hostname) != nil {
			errs = append(errs, field.Invalid(path.Child("hostname"), ingress.Hostname, "must be a DNS name, not an IP address"))
		}
	}
	return errs
}
