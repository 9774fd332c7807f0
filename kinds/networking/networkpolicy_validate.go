// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package networking

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

// rules of one policy: which CIDRs are stored already, and whether the stored selector is invalid.
type rules struct {
	cidrs   map[string]bool
	lenient bool
}

func validateNetworkPolicy(_ kinds.Request, p *networkingv1.NetworkPolicy) field.ErrorList {
	return rules{}.spec(&p.Spec, field.NewPath("spec"))
}

func validateNetworkPolicyUpdate(_ kinds.Request, new, old *networkingv1.NetworkPolicy) field.ErrorList {
	r := rules{cidrs: map[string]bool{}, lenient: check.HasInvalidValue(&old.Spec.PodSelector)}
	eachBlock(&old.Spec, func(_ *field.Path, block *networkingv1.IPBlock) {
		r.cidrs[block.CIDR] = true
		for _, cidr := range block.Except {
			r.cidrs[cidr] = true
		}
	})
	return r.spec(&new.Spec, field.NewPath("spec"))
}

// eachBlock visits all IP blocks of a policy.
func eachBlock(spec *networkingv1.NetworkPolicySpec, visit func(*field.Path, *networkingv1.IPBlock)) {
	peers := func(path *field.Path, list []networkingv1.NetworkPolicyPeer) {
		for i := range list {
			if list[i].IPBlock != nil {
				visit(path.Index(i).Child("ipBlock"), list[i].IPBlock)
			}
		}
	}
	for i := range spec.Ingress {
		peers(field.NewPath("spec", "ingress").Index(i).Child("from"), spec.Ingress[i].From)
	}
	for i := range spec.Egress {
		peers(field.NewPath("spec", "egress").Index(i).Child("to"), spec.Egress[i].To)
	}
}

func (r rules) selector(selector *metav1.LabelSelector, path *field.Path) field.ErrorList {
	if r.lenient {
		return check.LenientSelector(selector, selector, path)
	}
	return check.Selector(selector, path)
}

func (r rules) spec(spec *networkingv1.NetworkPolicySpec, path *field.Path) field.ErrorList {
	errs := r.selector(&spec.PodSelector, path.Child("podSelector"))
	for i := range spec.Ingress {
		at := path.Child("ingress").Index(i)
		errs = append(errs, r.rule(spec.Ingress[i].Ports, spec.Ingress[i].From, at, "from")...)
	}
	for i := range spec.Egress {
		at := path.Child("egress").Index(i)
		errs = append(errs, r.rule(spec.Egress[i].Ports, spec.Egress[i].To, at, "to")...)
	}
	allowed := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	if len(spec.PolicyTypes) > len(allowed) {
		return append(errs, field.Invalid(path.Child("policyTypes"), &spec.PolicyTypes, "may not specify more than two policyTypes"))
	}
	for i, t := range spec.PolicyTypes {
		if t != allowed[0] && t != allowed[1] {
			errs = append(errs, field.NotSupported(path.Child("policyTypes").Index(i), t, allowed))
		}
	}
	return errs
}

func (r rules) rule(ports []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer, path *field.Path, side string) field.ErrorList {
	var errs field.ErrorList
	for i := range ports {
		errs = append(errs, validatePort(&ports[i], path.Child("ports").Index(i))...)
	}
	for i := range peers {
		errs = append(errs, r.peer(&peers[i], path.Child(side).Index(i))...)
	}
	return errs
}

func validatePort(port *networkingv1.NetworkPolicyPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	protocols := []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}
	if p := port.Protocol; p != nil && *p != protocols[0] && *p != protocols[1] && *p != protocols[2] {
		errs = append(errs, field.NotSupported(path.Child("protocol"), *p, protocols))
	}
	end := path.Child("endPort")
	switch {
	case port.Port == nil:
		if port.EndPort != nil {
			errs = append(errs, field.Invalid(end, *port.EndPort, "may not be specified when `port` is not specified"))
		}
	case port.Port.Type == intstr.Int:
		errs = append(errs, check.Messages(path.Child("port"), port.Port.IntVal, utilvalidation.IsValidPortNum(int(port.Port.IntVal)))...)
		if port.EndPort == nil {
			break
		}
		if *port.EndPort < port.Port.IntVal {
			errs = append(errs, field.Invalid(end, port.Port.IntVal, "must be greater than or equal to `port`"))
		}
		errs = append(errs, check.Messages(end, *port.EndPort, utilvalidation.IsValidPortNum(int(*port.EndPort)))...)
	default:
		if port.EndPort != nil {
			errs = append(errs, field.Invalid(end, *port.EndPort, "may not be specified when `port` is non-numeric"))
		}
		errs = append(errs, check.Messages(path.Child("port"), port.Port.StrVal, utilvalidation.IsValidPortName(port.Port.StrVal))...)
	}
	return errs
}

func (r rules) peer(peer *networkingv1.NetworkPolicyPeer, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	selectors := 0
	if peer.PodSelector != nil {
		selectors++
		errs = append(errs, r.selector(peer.PodSelector, path.Child("podSelector"))...)
	}
	if peer.NamespaceSelector != nil {
		selectors++
		errs = append(errs, r.selector(peer.NamespaceSelector, path.Child("namespaceSelector"))...)
	}
	if peer.IPBlock != nil {
		errs = append(errs, r.block(peer.IPBlock, path.Child("ipBlock"))...)
	}
	switch {
	case selectors == 0 && peer.IPBlock == nil:
		errs = append(errs, field.Required(path, "must specify a peer"))
	case selectors > 0 && peer.IPBlock != nil:
		errs = append(errs, field.Forbidden(path, "may not specify both ipBlock and another peer"))
	}
	return errs
}

func (r rules) block(block *networkingv1.IPBlock, path *field.Path) field.ErrorList {
	if block.CIDR == "" {
		return field.ErrorList{field.Required(path.Child("cidr"), "")}
	}
	errs := r.cidr(block.CIDR, path.Child("cidr"))
	outer, err := netip.ParsePrefix(block.CIDR)
	if err != nil {
		return errs
	}
	for i, text := range block.Except {
		at := path.Child("except").Index(i)
		errs = append(errs, r.cidr(text, at)...)
		inner, err := netip.ParsePrefix(text)
		if err == nil && (!outer.Masked().Contains(inner.Masked().Addr()) || outer.Bits() >= inner.Bits()) {
			errs = append(errs, field.Invalid(at, text, "must be a strict subset of `cidr`"))
		}
	}
	return errs
}

func (r rules) cidr(text string, path *field.Path) field.ErrorList {
	if r.cidrs[text] {
		return nil
	}
	return utilvalidation.IsValidCIDR(path, text)
}

func warnNetworkPolicy(_ kinds.Request, new, _ *networkingv1.NetworkPolicy) []string {
	var warnings []string
	eachBlock(&new.Spec, func(path *field.Path, block *networkingv1.IPBlock) {
		warnings = append(warnings, utilvalidation.GetWarningsForCIDR(path.Child("cidr"), block.CIDR)...)
		for i, text := range block.Except {
			warnings = append(warnings, utilvalidation.GetWarningsForCIDR(path.Child("except").Index(i), text)...)
		}
	})
	return warnings
}
