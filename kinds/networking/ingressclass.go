// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package networking

import (
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/table"
)

// maxController bounds the name of an ingress controller.
const maxController = 250

func ingressClass() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource: "ingressclasses",
		Singular: "ingressclass",
		Storage:  kinds.Storage{Prefix: "ingressclasses"},
	}, version.WithKind("IngressClass"),
		func() *networkingv1.IngressClass { return &networkingv1.IngressClass{} },
		func() runtime.Object { return &networkingv1.IngressClassList{} },
		kinds.Strategy[*networkingv1.IngressClass]{
			Default: func(c *networkingv1.IngressClass) {
				if p := c.Spec.Parameters; p != nil && p.Scope == nil {
					p.Scope = ptr.To(networkingv1.IngressClassParametersReferenceScopeCluster)
				}
			},
			PrepareCreate: func(_ kinds.Request, c *networkingv1.IngressClass) { c.Generation = 1 },
			PrepareUpdate: func(_ kinds.Request, new, old *networkingv1.IngressClass) {
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate: func(_ kinds.Request, c *networkingv1.IngressClass) field.ErrorList {
				return validateIngressClass(&c.Spec, field.NewPath("spec"))
			},
			ValidateUpdate: func(_ kinds.Request, new, old *networkingv1.IngressClass) field.ErrorList {
				path := field.NewPath("spec")
				errs := check.Immutable(new.Spec.Controller, old.Spec.Controller, path.Child("controller"))
				return append(errs, validateIngressClass(&new.Spec, path)...)
			},
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("Controller", "Controller that is responsible for handling this class"),
				table.Text("Parameters", "A reference to a resource with additional parameters"),
				table.Age(),
			},
			Row: ingressClassRow,
		})
}

func ingressClassRow(c *networkingv1.IngressClass, now time.Time) []any {
	name := c.Name
	if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
		name += " (default)"
	}
	parameters := table.None
	if p := c.Spec.Parameters; p != nil {
		parameters = p.Kind
		if p.APIGroup != nil {
			parameters += "." + *p.APIGroup
		}
		parameters += "/" + p.Name
	}
	return []any{name, c.Spec.Controller, parameters, table.Since(c.CreationTimestamp, now)}
}

func validateIngressClass(spec *networkingv1.IngressClassSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(spec.Controller) > maxController {
		errs = append(errs, field.TooLong(path.Child("controller"), "", maxController))
	}
	errs = append(errs, utilvalidation.IsDomainPrefixedPath(path.Child("controller"), spec.Controller)...)
	p := spec.Parameters
	if p == nil {
		return errs
	}
	path = path.Child("parameters")
	errs = append(errs, validateReference(p.APIGroup, p.Kind, p.Name, path)...)
	cluster, namespace := networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace
	switch {
	case p.Scope == nil:
		errs = append(errs, field.Required(path.Child("scope"), ""))
	case *p.Scope == namespace && p.Namespace == nil:
		errs = append(errs, field.Required(path.Child("namespace"), "`parameters.scope` is set to 'Namespace'"))
	case *p.Scope == namespace:
		errs = append(errs, check.Label(*p.Namespace, path.Child("namespace"))...)
	case *p.Scope == cluster && p.Namespace != nil:
		errs = append(errs, field.Forbidden(path.Child("namespace"), "`parameters.scope` is set to 'Cluster'"))
	case *p.Scope == cluster:
	default:
		errs = append(errs, field.NotSupported(path.Child("scope"), *p.Scope, []string{cluster, namespace}))
	}
	return errs
}
