// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package networking

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

func networkPolicy() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:   "networkpolicies",
		Singular:   "networkpolicy",
		ShortNames: []string{"netpol"},
		Namespaced: true,
		Storage:    kinds.Storage{Prefix: "networkpolicies"},
	}, version.WithKind("NetworkPolicy"),
		func() *networkingv1.NetworkPolicy { return &networkingv1.NetworkPolicy{} },
		func() runtime.Object { return &networkingv1.NetworkPolicyList{} },
		kinds.Strategy[*networkingv1.NetworkPolicy]{
			Default:       defaultNetworkPolicy,
			PrepareCreate: func(_ kinds.Request, p *networkingv1.NetworkPolicy) { p.Generation = 1 },
			PrepareUpdate: func(_ kinds.Request, new, old *networkingv1.NetworkPolicy) {
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       validateNetworkPolicy,
			ValidateUpdate: validateNetworkPolicyUpdate,
			Warn:           warnNetworkPolicy,
			Columns: []metav1.TableColumnDefinition{
				table.Name(), table.Text("Pod-Selector", networkingv1.NetworkPolicySpec{}.SwaggerDoc()["podSelector"]), table.Age(),
			},
			Row: func(p *networkingv1.NetworkPolicy, now time.Time) []any {
				return []any{p.Name, metav1.FormatLabelSelector(&p.Spec.PodSelector), table.Since(p.CreationTimestamp, now)}
			},
		})
}

// defaultNetworkPolicy takes a policy that names no direction to mean ingress, and egress where it has rules for it.
func defaultNetworkPolicy(p *networkingv1.NetworkPolicy) {
	if len(p.Spec.PolicyTypes) == 0 {
		p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(p.Spec.Egress) > 0 {
			p.Spec.PolicyTypes = append(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
	for i := range p.Spec.Ingress {
		defaultPorts(p.Spec.Ingress[i].Ports)
	}
	for i := range p.Spec.Egress {
		defaultPorts(p.Spec.Egress[i].Ports)
	}
}

func defaultPorts(ports []networkingv1.NetworkPolicyPort) {
	for i := range ports {
		if ports[i].Protocol == nil {
			ports[i].Protocol = ptr.To(corev1.ProtocolTCP)
		}
	}
}
