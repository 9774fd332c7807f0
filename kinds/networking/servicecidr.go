// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package networking

import (
	"net/netip"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	networkingv1beta1 "k8s.io/api/networking/v1beta1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

func serviceCIDR() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:     "servicecidrs",
		Singular:     "servicecidr",
		Reset:        map[string][]string{"status": {"metadata", "spec"}},
		NoGeneration: true,
		Storage:      kinds.Storage{Prefix: "servicecidrs"},
		OnRequest: []kinds.Served{
			kinds.Mirror[networkingv1beta1.ServiceCIDR, networkingv1beta1.ServiceCIDRList, networkingv1.ServiceCIDR](beta.WithKind("ServiceCIDR")),
		},
		Subresources: []kinds.Subresource{
			kinds.Status(func(_ kinds.Request, new, old *networkingv1.ServiceCIDR) {
				new.Spec = old.Spec
				metav1.ResetObjectMetaForStatus(&new.ObjectMeta, &old.ObjectMeta)
			}, nil),
		},
	}, version.WithKind("ServiceCIDR"),
		func() *networkingv1.ServiceCIDR { return &networkingv1.ServiceCIDR{} },
		func() runtime.Object { return &networkingv1.ServiceCIDRList{} },
		kinds.Strategy[*networkingv1.ServiceCIDR]{
			PrepareCreate: func(_ kinds.Request, c *networkingv1.ServiceCIDR) { c.Status = networkingv1.ServiceCIDRStatus{} },
			PrepareUpdate: func(_ kinds.Request, new, old *networkingv1.ServiceCIDR) { new.Status = old.Status },
			Validate: func(_ kinds.Request, c *networkingv1.ServiceCIDR) field.ErrorList {
				return validateCIDRs(&c.Spec, field.NewPath("spec", "cidrs"))
			},
			ValidateUpdate: validateCIDRUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(), table.Text("CIDRs", networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"]), table.Age(),
			},
			Row: func(c *networkingv1.ServiceCIDR, now time.Time) []any {
				return []any{c.Name, strings.Join(c.Spec.CIDRs, ","), table.Since(c.CreationTimestamp, now)}
			},
		})
}

func validateCIDRs(spec *networkingv1.ServiceCIDRSpec, path *field.Path) field.ErrorList {
	switch n := len(spec.CIDRs); {
	case n == 0:
		return field.ErrorList{field.Required(path, "at least one CIDR required")}
	case n > 2:
		return field.ErrorList{field.Invalid(path, spec, "may only hold up to 2 values")}
	}
	var errs field.ErrorList
	for i, cidr := range spec.CIDRs {
		errs = append(errs, utilvalidation.IsValidCIDR(path.Index(i), cidr)...)
	}
	if len(spec.CIDRs) == 2 {
		a, errA := netip.ParsePrefix(spec.CIDRs[0])
		b, errB := netip.ParsePrefix(spec.CIDRs[1])
		if errA == nil && errB == nil && a.Addr().Is4() == b.Addr().Is4() {
			errs = append(errs, field.Invalid(path, spec.CIDRs,
				"may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"))
		}
	}
	return errs
}

// validateCIDRUpdate admits one change: a second address family.
func validateCIDRUpdate(_ kinds.Request, new, old *networkingv1.ServiceCIDR) field.ErrorList {
	path := field.NewPath("spec", "cidrs")
	was, is := old.Spec.CIDRs, new.Spec.CIDRs
	grows := len(was) == 1 && len(is) == 2
	if len(was) != len(is) && !grows {
		return field.ErrorList{field.Invalid(path, is, validation.FieldImmutableErrorMsg)}
	}
	var errs field.ErrorList
	for i := range was {
		if was[i] != is[i] {
			errs = append(errs, field.Invalid(path.Index(i), is[i], validation.FieldImmutableErrorMsg))
		}
	}
	if grows {
		errs = append(errs, validateCIDRs(&new.Spec, path)...)
	}
	return errs
}
