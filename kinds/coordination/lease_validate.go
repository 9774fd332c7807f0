// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package coordination

import (
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

func validateLease(_ kinds.Request, l *coordinationv1.Lease) field.ErrorList {
	return validateSpec(&l.Spec, field.NewPath("spec"))
}

func validateLeaseUpdate(_ kinds.Request, new, _ *coordinationv1.Lease) field.ErrorList {
	return validateSpec(&new.Spec, field.NewPath("spec"))
}

func validateSpec(spec *coordinationv1.LeaseSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s := spec.LeaseDurationSeconds; s != nil && *s <= 0 {
		errs = append(errs, field.Invalid(path.Child("leaseDurationSeconds"), *s, "must be greater than 0"))
	}
	errs = append(errs, check.Counts(path, check.Optional("leaseTransitions", spec.LeaseTransitions))...)
	if spec.Strategy != nil {
		errs = append(errs, validateStrategy(*spec.Strategy, path.Child("strategy"))...)
	}
	if spec.PreferredHolder != nil && *spec.PreferredHolder != "" && (spec.Strategy == nil || *spec.Strategy == "") {
		errs = append(errs, field.Forbidden(path.Child("preferredHolder"), "may only be specified if `strategy` is defined"))
	}
	return errs
}

// validateStrategy admits the known strategies, and any that names its domain. Both findings name the field twice, as
// clients have always seen them.
func validateStrategy(strategy coordinationv1.CoordinatedLeaseStrategy, path *field.Path) field.ErrorList {
	path = path.Child("strategy")
	if strings.Contains(string(strategy), "/") {
		return check.Messages(path, strategy, utilvalidation.IsQualifiedName(string(strategy)))
	}
	if strategy == coordinationv1.OldestEmulationVersion {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, strategy, []coordinationv1.CoordinatedLeaseStrategy{coordinationv1.OldestEmulationVersion})}
}
