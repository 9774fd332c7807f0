// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package networking

import (
	"fmt"
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

// classAnnotation named the class of an ingress before it had a field.
const classAnnotation = "kubernetes.io/ingress.class"

// tolerance says what an update may keep because the stored object has it already.
type tolerance struct {
	secretNames   bool
	wildcardRules bool
}

func validateIngress(_ kinds.Request, i *networkingv1.Ingress) field.ErrorList {
	errs := validateIngressSpec(&i.Spec, field.NewPath("spec"), tolerance{})
	class, annotated := i.Annotations[classAnnotation]
	if annotated && i.Spec.IngressClassName != nil && class != *i.Spec.IngressClassName {
		errs = append(errs, field.Invalid(field.NewPath("annotations").Child(classAnnotation), class,
			"must match `ingressClassName` when both are specified"))
	}
	return errs
}

func validateIngressUpdate(_ kinds.Request, new, old *networkingv1.Ingress) field.ErrorList {
	var allow tolerance
	for _, tls := range old.Spec.TLS {
		allow.secretNames = allow.secretNames || len(validateSecretName(tls.SecretName, nil)) > 0
	}
	for i := range old.Spec.Rules {
		rule := &old.Spec.Rules[i]
		allow.wildcardRules = allow.wildcardRules || strings.Contains(rule.Host, "*") && len(validateHTTP(rule.HTTP, nil)) > 0
	}
	return validateIngressSpec(&new.Spec, field.NewPath("spec"), allow)
}

func validateIngressSpec(spec *networkingv1.IngressSpec, path *field.Path, allow tolerance) field.ErrorList {
	var errs field.ErrorList
	if len(spec.Rules) == 0 && spec.DefaultBackend == nil {
		errs = append(errs, field.Invalid(path, spec.Rules, "either `defaultBackend` or `rules` must be specified"))
	}
	if spec.DefaultBackend != nil {
		errs = append(errs, validateBackend(spec.DefaultBackend, path.Child("defaultBackend"))...)
	}
	for i := range spec.Rules {
		errs = append(errs, validateIngressRule(&spec.Rules[i], path.Child("rules").Index(i), allow)...)
	}
	for i := range spec.TLS {
		errs = append(errs, validateTLS(&spec.TLS[i], path.Child("tls").Index(i), allow)...)
	}
	if spec.IngressClassName != nil {
		errs = append(errs, check.Subdomain(*spec.IngressClassName, path.Child("ingressClassName"))...)
	}
	return errs
}

func validateTLS(tls *networkingv1.IngressTLS, path *field.Path, allow tolerance) field.ErrorList {
	var errs field.ErrorList
	for i, host := range tls.Hosts {
		errs = append(errs, validateHost(host, path.Child("hosts").Index(i))...)
	}
	if !allow.secretNames {
		errs = append(errs, validateSecretName(tls.SecretName, path.Child("secretName"))...)
	}
	return errs
}

func validateSecretName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return nil
	}
	return check.Subdomain(name, path)
}

func validateHost(host string, path *field.Path) field.ErrorList {
	if strings.Contains(host, "*") {
		return check.Messages(path, host, utilvalidation.IsWildcardDNS1123Subdomain(host))
	}
	return check.Subdomain(host, path)
}

func validateIngressRule(rule *networkingv1.IngressRule, path *field.Path, allow tolerance) field.ErrorList {
	var errs field.ErrorList
	if rule.Host != "" {
		if isIP(rule.Host) {
			errs = append(errs, field.Invalid(path.Child("host"), rule.Host, "must be a DNS name, not an IP address"))
		}
		errs = append(errs, validateHost(rule.Host, path.Child("host"))...)
	}
	if strings.Contains(rule.Host, "*") && allow.wildcardRules {
		return errs
	}
	return append(errs, validateHTTP(rule.HTTP, path.Child("http"))...)
}

func isIP(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

func validateHTTP(http *networkingv1.HTTPIngressRuleValue, path *field.Path) field.ErrorList {
	if http == nil {
		return nil
	}
	path = path.Child("paths")
	var errs field.ErrorList
	if len(http.Paths) == 0 {
		errs = append(errs, field.Required(path, ""))
	}
	for i := range http.Paths {
		errs = append(errs, validatePath(&http.Paths[i], path.Index(i))...)
	}
	return errs
}

func validatePath(p *networkingv1.HTTPIngressPath, path *field.Path) field.ErrorList {
	if p.PathType == nil {
		return field.ErrorList{field.Required(path.Child("pathType"), "pathType must be specified")}
	}
	var errs field.ErrorList
	at := path.Child("path")
	absolute := strings.HasPrefix(p.Path, "/")
	switch *p.PathType {
	case networkingv1.PathTypeExact, networkingv1.PathTypePrefix:
		if !absolute {
			errs = append(errs, field.Invalid(at, p.Path, "must be an absolute path"))
		}
		for _, bad := range []string{"//", "/./", "/../", "%2f", "%2F"} {
			if strings.Contains(p.Path, bad) {
				errs = append(errs, field.Invalid(at, p.Path, fmt.Sprintf("must not contain '%s'", bad)))
			}
		}
		for _, bad := range []string{"/..", "/."} {
			if strings.HasSuffix(p.Path, bad) {
				errs = append(errs, field.Invalid(at, p.Path, fmt.Sprintf("cannot end with '%s'", bad)))
			}
		}
	case networkingv1.PathTypeImplementationSpecific:
		if p.Path != "" && !absolute {
			errs = append(errs, field.Invalid(at, p.Path, "must be an absolute path"))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("pathType"), *p.PathType,
			[]networkingv1.PathType{networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix}))
	}
	return append(errs, validateBackend(&p.Backend, path.Child("backend"))...)
}

func validateBackend(backend *networkingv1.IngressBackend, path *field.Path) field.ErrorList {
	switch {
	case backend.Resource != nil && backend.Service != nil:
		return field.ErrorList{field.Invalid(path, "", "cannot set both resource and service backends")}
	case backend.Resource != nil:
		at := path.Child("resource")
		return validateReference(backend.Resource.APIGroup, backend.Resource.Kind, backend.Resource.Name, at)
	case backend.Service == nil:
		return field.ErrorList{field.Invalid(path, "", "resource or service backend is required")}
	}
	service, at := backend.Service, path.Child("service")
	var errs field.ErrorList
	if service.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	} else {
		errs = append(errs, check.Label(service.Name, at.Child("name"))...)
	}
	name, number := service.Port.Name, service.Port.Number
	switch {
	case name != "" && number != 0:
		errs = append(errs, field.Invalid(path, "", "cannot set both port name & port number"))
	case name != "":
		errs = append(errs, check.Messages(at.Child("port", "name"), name, utilvalidation.IsValidPortName(name))...)
	case number != 0:
		errs = append(errs, check.Messages(at.Child("port", "number"), number, utilvalidation.IsValidPortNum(int(number)))...)
	default:
		errs = append(errs, field.Required(path, "port name or number is required"))
	}
	return errs
}

// validateReference judges a reference to an object of any kind in the same scope.
func validateReference(group *string, kind, name string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if group != nil {
		errs = append(errs, check.Subdomain(*group, path.Child("apiGroup"))...)
	}
	errs = append(errs, requireSegment(kind, path.Child("kind"))...)
	return append(errs, requireSegment(name, path.Child("name"))...)
}

// requireSegment judges a name that must be there and must fit between two slashes of a URL.
func requireSegment(value string, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return check.Messages(path, value, content.IsPathSegmentName(value))
}

func validateIngressStatus(_ kinds.Request, new, old *networkingv1.Ingress) field.ErrorList {
	known := map[string]bool{}
	for _, point := range old.Status.LoadBalancer.Ingress {
		known[point.IP] = true
	}
	var errs field.ErrorList
	path := field.NewPath("status", "loadBalancer", "ingress")
	for i, point := range new.Status.LoadBalancer.Ingress {
		at := path.Index(i)
		if point.IP != "" && !known[point.IP] {
			errs = append(errs, utilvalidation.IsValidIP(at.Child("ip"), point.IP)...)
		}
		if point.Hostname == "" {
			continue
		}
		errs = append(errs, check.Subdomain(point.Hostname, at.Child("hostname"))...)
		if isIP(point.Hostname) {
			errs = append(errs, field.Invalid(at.Child("hostname"), point.Hostname, "must be a DNS name, not an IP address"))
		}
	}
	return errs
}

// warnIngress takes a nil old on create.
func warnIngress(_ kinds.Request, new, old *networkingv1.Ingress) []string {
	if _, annotated := new.Annotations[classAnnotation]; old == nil && annotated && new.Spec.IngressClassName == nil {
		return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", classAnnotation)}
	}
	return nil
}

func warnIngressStatus(i *networkingv1.Ingress) []string {
	var warnings []string
	for n, point := range i.Status.LoadBalancer.Ingress {
		if point.IP != "" {
			warnings = append(warnings, utilvalidation.GetWarningsForIP(field.NewPath("status", "loadBalancer", "ingress").Index(n), point.IP)...)
		}
	}
	return warnings
}
