// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
)

// defaultIngressClass gives ingresses without a class the default one.
type defaultIngressClass struct{ reader admission.Reader }

// Admit implements admission.Mutator.
func (p defaultIngressClass) Admit(ctx context.Context, a *admission.Attributes) error {
	ingress, ok := admission.Object[*networkingv1.Ingress](a)
	if !ok || !a.Is(networkingv1.GroupName, "ingresses") || a.Operation != admission.Create {
		return nil
	}
	if _, old := ingress.Annotations["kubernetes.io/ingress.class"]; old || ingress.Spec.IngressClassName != nil {
		return nil
	}
	list, err := admission.List[*networkingv1.IngressClass](ctx, p.reader, schema.GroupResource{Group: networkingv1.GroupName, Resource: "ingressclasses"}, "")
	if err != nil {
		return admission.Forbidden(a, err)
	}
	list = slices.DeleteFunc(list, func(c *networkingv1.IngressClass) bool {
		return c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] != "true"
	})
	if len(list) > 0 {
		ingress.Spec.IngressClassName = new(newest(list).Name)
	}
	return nil
}

const denyExternalIPsName = "DenyServiceExternalIPs"

// denyExternalIPs forbids new uses of a Service's externalIPs. Off unless asked for.
type denyExternalIPs struct{}

// Validate implements admission.Validator.
func (denyExternalIPs) Validate(_ context.Context, a *admission.Attributes) error {
	svc, ok := admission.Object[*corev1.Service](a)
	if !ok || !a.Is("", "services") || a.Operation != admission.Create && a.Operation != admission.Update {
		return nil
	}
	var before []string
	if old, ok := admission.Old[*corev1.Service](a); ok {
		before = old.Spec.ExternalIPs
	}
	for _, ip := range svc.Spec.ExternalIPs {
		if !slices.Contains(before, ip) {
			return admission.Forbiddenf(a, "Use of external IPs is denied by admission control.")
		}
	}
	return nil
}
