// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

func validateRoleBinding(_ kinds.Request, b *rbacv1.RoleBinding) field.ErrorList {
	errs := validateRoleRef(&b.RoleRef, "Role", "ClusterRole")
	for i := range b.Subjects {
		errs = append(errs, validateSubject(&b.Subjects[i], field.NewPath("subjects").Index(i))...)
	}
	return errs
}

func validateRoleBindingUpdate(req kinds.Request, new, old *rbacv1.RoleBinding) field.ErrorList {
	return append(validateRoleBinding(req, new), sameRef(new.RoleRef, old.RoleRef)...)
}

func validateClusterRoleBinding(_ kinds.Request, b *rbacv1.ClusterRoleBinding) field.ErrorList {
	errs := validateRoleRef(&b.RoleRef, "ClusterRole")
	for i := range b.Subjects {
		at := field.NewPath("subjects").Index(i)
		errs = append(errs, validateSubject(&b.Subjects[i], at)...)
		if b.Subjects[i].Kind == rbacv1.ServiceAccountKind && b.Subjects[i].Namespace == "" {
			errs = append(errs, field.Required(at.Child("namespace"), ""))
		}
	}
	return errs
}

func validateClusterRoleBindingUpdate(req kinds.Request, new, old *rbacv1.ClusterRoleBinding) field.ErrorList {
	return append(validateClusterRoleBinding(req, new), sameRef(new.RoleRef, old.RoleRef)...)
}

// sameRef keeps a binding's role for its life, so that who may edit subjects can't widen what they grant.
func sameRef(new, old rbacv1.RoleRef) field.ErrorList {
	if new == old {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("roleRef"), new, "cannot change roleRef")}
}

func validateRoleRef(ref *rbacv1.RoleRef, allowed ...string) field.ErrorList {
	at := field.NewPath("roleRef")
	var errs field.ErrorList
	if ref.APIGroup != rbacv1.GroupName {
		errs = append(errs, field.NotSupported(at.Child("apiGroup"), ref.APIGroup, []string{rbacv1.GroupName}))
	}
	known := false
	for _, kind := range allowed {
		known = known || ref.Kind == kind
	}
	if !known {
		errs = append(errs, field.NotSupported(at.Child("kind"), ref.Kind, allowed))
	}
	if ref.Name == "" {
		return append(errs, field.Required(at.Child("name"), ""))
	}
	return append(errs, check.Messages(at.Child("name"), ref.Name, pathSegment(ref.Name, false))...)
}

func validateSubject(s *rbacv1.Subject, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		if s.Name != "" {
			errs = append(errs, check.Messages(at.Child("name"), s.Name, validation.ValidateServiceAccountName(s.Name, false))...)
		}
		if s.APIGroup != "" {
			errs = append(errs, field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{""}))
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
		if s.APIGroup != rbacv1.GroupName {
			errs = append(errs, field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{rbacv1.GroupName}))
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("kind"), s.Kind,
			[]string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind}))
	}
	return errs
}
