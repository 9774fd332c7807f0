// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/check"
)

// milliScale is how many of the smallest units that the API keeps make a whole.
const milliScale = 1000

// countable are the resources without a prefix that come in whole numbers only.
var countable = []corev1.ResourceName{
	corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers, corev1.ResourceSecrets,
	corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers,
}

// quotable are the resources without a prefix that a quota can limit, besides the countable ones and huge pages.
var quotable = []corev1.ResourceName{
	corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
	corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsStorage, corev1.ResourceRequestsEphemeralStorage,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage,
}

// IsHugePage reports whether a resource is huge pages of some size.
func IsHugePage(name corev1.ResourceName) bool { return isHugePage(name) }

// IsOvercommittable reports whether a node may promise more of a resource than it has.
func IsOvercommittable(name corev1.ResourceName) bool { return overcommittable(name) }

// IsExtended reports whether a resource is one that a device plugin or an administrator added to a node.
func IsExtended(name corev1.ResourceName) bool {
	if isNative(name) || strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(utilvalidation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// IsQuotaResource reports whether a resource without a prefix can be limited by a quota.
func IsQuotaResource(name corev1.ResourceName) bool {
	return slices.Contains(quotable, name) || slices.Contains(countable, name) ||
		isHugePage(name) || strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix)
}

func isStandard(name corev1.ResourceName) bool {
	return name == corev1.ResourceStorage || IsQuotaResource(name)
}

func isWhole(name corev1.ResourceName) bool {
	return slices.Contains(countable, name) || IsExtended(name)
}

// ValidateResourceName judges the name of a resource anywhere.
func ValidateResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	if msgs := utilvalidation.IsQualifiedName(string(name)); len(msgs) > 0 {
		return check.Messages(path, name, msgs)
	}
	if !strings.Contains(string(name), "/") && !isStandard(name) {
		return field.ErrorList{field.Invalid(path, name, "must be a standard resource type or fully qualified")}
	}
	return nil
}

// ValidateContainerResourceName judges the name of a resource that a container asks for.
func ValidateContainerResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	errs := ValidateResourceName(name, path)
	switch {
	case !strings.Contains(string(name), "/"):
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		default:
			if !isHugePage(name) {
				errs = append(errs, field.Invalid(path, name, "must be a standard resource for containers"))
			}
		}
	case !isNative(name) && !IsExtended(name):
		errs = append(errs, field.Invalid(path, name, "doesn't follow extended resource name standard"))
	}
	return errs
}

// ValidateQuotaResourceName judges the name of a resource that a quota limits.
func ValidateQuotaResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	errs := ValidateResourceName(name, path)
	if !strings.Contains(string(name), "/") && !IsQuotaResource(name) {
		errs = append(errs, field.Invalid(path, name, "must be a standard resource for quota"))
	}
	return errs
}

// ValidateQuantity judges an amount of a resource: not negative, and whole where the resource can't be divided.
func ValidateQuantity(name corev1.ResourceName, quantity resource.Quantity, path *field.Path) field.ErrorList {
	errs := ValidateNonNegative(quantity, path)
	if isWhole(name) && quantity.MilliValue()%milliScale != 0 {
		errs = append(errs, field.Invalid(path, quantity, "must be an integer"))
	}
	return errs
}

// ValidateNonNegative refuses negative quantities.
func ValidateNonNegative(quantity resource.Quantity, path *field.Path) field.ErrorList {
	if quantity.Sign() < 0 {
		return field.ErrorList{field.Invalid(path, quantity.String(), validation.IsNegativeErrorMsg)}
	}
	return nil
}

// ValidatePositive refuses quantities that are zero or negative.
func ValidatePositive(quantity resource.Quantity, path *field.Path) field.ErrorList {
	if quantity.Sign() <= 0 {
		return field.ErrorList{field.Invalid(path, quantity.String(), "must be greater than zero")}
	}
	return nil
}
