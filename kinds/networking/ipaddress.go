// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package networking

import (
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	networkingv1beta1 "k8s.io/api/networking/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/table"
)

func ipAddress() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:     "ipaddresses",
		Singular:     "ipaddress",
		ShortNames:   []string{"ip"},
		NoGeneration: true,
		ValidateName: func(name string, _ bool) []string {
			var out []string
			for _, err := range utilvalidation.IsValidIP(nil, name) {
				out = append(out, err.Detail)
			}
			return out
		},
		Storage: kinds.Storage{Prefix: "ipaddresses"},
		OnRequest: []kinds.Served{
			kinds.Mirror[networkingv1beta1.IPAddress, networkingv1beta1.IPAddressList, networkingv1.IPAddress](beta.WithKind("IPAddress")),
		},
	}, version.WithKind("IPAddress"),
		func() *networkingv1.IPAddress { return &networkingv1.IPAddress{} },
		func() runtime.Object { return &networkingv1.IPAddressList{} },
		kinds.Strategy[*networkingv1.IPAddress]{
			Validate: func(_ kinds.Request, a *networkingv1.IPAddress) field.ErrorList {
				return validateParent(a.Spec.ParentRef, field.NewPath("spec", "parentRef"))
			},
			ValidateUpdate: func(_ kinds.Request, new, old *networkingv1.IPAddress) field.ErrorList {
				path := field.NewPath("spec", "parentRef")
				return append(validateParent(new.Spec.ParentRef, path), check.Immutable(new.Spec.ParentRef, old.Spec.ParentRef, path)...)
			},
			Columns: []metav1.TableColumnDefinition{
				table.Name(), table.Text("ParentRef", networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"]),
			},
			Row: func(a *networkingv1.IPAddress, _ time.Time) []any {
				return []any{a.Name, parentText(a.Spec.ParentRef)}
			},
		})
}

func parentText(ref *networkingv1.ParentReference) string {
	if ref == nil {
		return table.None
	}
	text := strings.ToLower(schema.GroupResource{Group: ref.Group, Resource: ref.Resource}.String())
	if ref.Namespace != "" {
		text += "/" + ref.Namespace
	}
	return text + "/" + ref.Name
}

func validateParent(ref *networkingv1.ParentReference, path *field.Path) field.ErrorList {
	if ref == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if ref.Group != "" {
		errs = append(errs, check.Subdomain(ref.Group, path.Child("group"))...)
	}
	errs = append(errs, requireSegment(ref.Resource, path.Child("resource"))...)
	errs = append(errs, requireSegment(ref.Name, path.Child("name"))...)
	if ref.Namespace != "" {
		errs = append(errs, requireSegment(ref.Namespace, path.Child("namespace"))...)
	}
	return errs
}
