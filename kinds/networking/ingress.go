// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package networking

import (
	"slices"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

func ingress() *kinds.Kind {
	status := kinds.Status(func(_ kinds.Request, new, old *networkingv1.Ingress) { new.Spec = old.Spec }, validateIngressStatus)
	status.Warn = func(_ kinds.Request, new, _ kinds.Object) []string {
		return warnIngressStatus(new.(*networkingv1.Ingress))
	}
	return kinds.Define(kinds.Kind{
		Resource:     "ingresses",
		Singular:     "ingress",
		ShortNames:   []string{"ing"},
		Namespaced:   true,
		Storage:      kinds.Storage{Prefix: "ingress"},
		Subresources: []kinds.Subresource{status},
	}, version.WithKind("Ingress"),
		func() *networkingv1.Ingress { return &networkingv1.Ingress{} },
		func() runtime.Object { return &networkingv1.IngressList{} },
		kinds.Strategy[*networkingv1.Ingress]{
			PrepareCreate: func(_ kinds.Request, i *networkingv1.Ingress) {
				i.Status = networkingv1.IngressStatus{}
				i.Generation = 1
			},
			PrepareUpdate: func(_ kinds.Request, new, old *networkingv1.Ingress) {
				new.Status = old.Status
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       validateIngress,
			ValidateUpdate: validateIngressUpdate,
			Warn:           warnIngress,
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("Class", "The name of the IngressClass resource that should be used for additional configuration"),
				table.Text("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
				table.Text("Address", "Address is a list containing ingress points for the load-balancer"),
				table.Text("Ports", "Ports of TLS configurations that open"),
				table.Age(),
			},
			Row: func(i *networkingv1.Ingress, now time.Time) []any {
				ports := "80"
				if len(i.Spec.TLS) > 0 {
					ports = "80, 443"
				}
				return []any{
					i.Name, table.Or(i.Spec.IngressClassName, table.None), hosts(i.Spec.Rules), addresses(&i.Status.LoadBalancer),
					ports, table.Since(i.CreationTimestamp, now),
				}
			},
		})
}

// hosts names the hosts of the first rules; a rule with no host matches all.
func hosts(rules []networkingv1.IngressRule) string {
	var named []string
	for _, r := range rules {
		if r.Host != "" {
			named = append(named, r.Host)
		}
	}
	if len(named) == 0 {
		return "*"
	}
	return table.List(named)
}

func addresses(status *networkingv1.IngressLoadBalancerStatus) string {
	var out []string
	for _, point := range status.Ingress {
		if point.IP != "" {
			out = append(out, point.IP)
		} else if point.Hostname != "" {
			out = append(out, point.Hostname)
		}
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ",")
}
