// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiregistration

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

// Bounds of the two priorities.
const (
	maxGroupPriority   = 20_000
	maxVersionPriority = 1000
)

func validate(_ kinds.Request, s *apiregistrationv1.APIService) field.ErrorList {
	errs := validateName(s)
	path, spec := field.NewPath("spec"), &s.Spec
	if spec.Group == "" && spec.Version != "v1" {
		errs = append(errs, field.Required(path.Child("group"), "only v1 may have an empty group and it better be legacy kube"))
	}
	if spec.Group != "" {
		errs = append(errs, check.Subdomain(spec.Group, path.Child("group"))...)
	}
	errs = append(errs, check.Messages(path.Child("version"), spec.Version, utilvalidation.IsDNS1035Label(spec.Version))...)
	if spec.GroupPriorityMinimum <= 0 || spec.GroupPriorityMinimum > maxGroupPriority {
		errs = append(errs, field.Invalid(path.Child("groupPriorityMinimum"), spec.GroupPriorityMinimum, "must be positive and less than 20000"))
	}
	if spec.VersionPriority <= 0 || spec.VersionPriority > maxVersionPriority {
		errs = append(errs, field.Invalid(path.Child("versionPriority"), spec.VersionPriority, "must be positive and less than 1000"))
	}
	if spec.Service == nil {
		return append(errs, validateLocal(spec, path)...)
	}
	return append(errs, validateRemote(spec, path)...)
}

// validateName requires the name that group and version make: it is how a group version has one APIService.
func validateName(s *apiregistrationv1.APIService) field.ErrorList {
	path := field.NewPath("metadata", "name")
	if msgs := content.IsPathSegmentName(s.Name); len(msgs) > 0 {
		return check.Messages(path, s.Name, msgs)
	}
	if want := s.Spec.Version + "." + s.Spec.Group; s.Name != "" && s.Name != want {
		return field.ErrorList{field.Invalid(path, s.Name, fmt.Sprintf("must be `spec.version+\".\"+spec.group`: %q", want))}
	}
	return nil
}

func validateLocal(spec *apiregistrationv1.APIServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(spec.CABundle) > 0 {
		errs = append(errs, field.Invalid(path.Child("caBundle"), fmt.Sprintf("%d bytes", len(spec.CABundle)), "local APIServices may not have a caBundle"))
	}
	if spec.InsecureSkipTLSVerify {
		errs = append(errs, field.Invalid(path.Child("insecureSkipTLSVerify"), true, "local APIServices may not have insecureSkipTLSVerify"))
	}
	return errs
}

func validateRemote(spec *apiregistrationv1.APIServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("service")
	if spec.Service.Namespace == "" {
		errs = append(errs, field.Required(at.Child("namespace"), ""))
	}
	if spec.Service.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	port := ptr.Deref(spec.Service.Port, servicePort)
	if msgs := utilvalidation.IsValidPortNum(int(port)); len(msgs) > 0 {
		errs = append(errs, field.Invalid(at.Child("port"), port, "port is not valid: "+strings.Join(msgs, ", ")))
	}
	if spec.InsecureSkipTLSVerify && len(spec.CABundle) > 0 {
		errs = append(errs, field.Invalid(path.Child("insecureSkipTLSVerify"), true, "may not be true if caBundle is present"))
	}
	return errs
}

func validateUpdate(req kinds.Request, new, _ *apiregistrationv1.APIService) field.ErrorList {
	return validate(req, new)
}

func validateStatus(_ kinds.Request, new, _ *apiregistrationv1.APIService) field.ErrorList {
	allowed := []apiregistrationv1.ConditionStatus{
		apiregistrationv1.ConditionTrue, apiregistrationv1.ConditionFalse, apiregistrationv1.ConditionUnknown,
	}
	var errs field.ErrorList
	for i, c := range new.Status.Conditions {
		if c.Status != allowed[0] && c.Status != allowed[1] && c.Status != allowed[2] {
			errs = append(errs, field.NotSupported(field.NewPath("status", "conditions").Index(i).Child("status"), c.Status, allowed))
		}
	}
	return errs
}
