// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"context"
	"fmt"
	"strings"

	resourcev1alpha3 "k8s.io/api/resource/v1alpha3"
	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/api/validate"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

// Bounds of a status.
const (
	maxPools           = 1000
	maxPoolConditions  = 10
	maxPoolError       = 256
	maxPoolNameSegment = 253
)

func validatePoolRequest(_ kinds.Request, r *resourcev1alpha3.ResourcePoolStatusRequest) field.ErrorList {
	path := field.NewPath("spec")
	errs := poolDriver(r.Spec.Driver, path.Child("driver"))
	if r.Spec.PoolName != nil {
		errs = append(errs, poolName(*r.Spec.PoolName, path.Child("poolName"))...)
	}
	switch n, limit := *r.Spec.Limit, path.Child("limit"); {
	case n > resourcev1alpha3.ResourcePoolStatusRequestLimitMax:
		errs = append(errs, field.Invalid(limit, n, content.MaxError(resourcev1alpha3.ResourcePoolStatusRequestLimitMax)))
	case n < 1:
		errs = append(errs, field.Invalid(limit, n, content.MinError(1)))
	}
	return errs
}

func validatePoolRequestUpdate(_ kinds.Request, new, old *resourcev1alpha3.ResourcePoolStatusRequest) field.ErrorList {
	if equal.Semantic(new.Spec, old.Spec) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("spec"), nil, validation.FieldImmutableErrorMsg)} // the value is not repeated
}

// validatePoolStatusUpdate accepts one answer, which never changes.
func validatePoolStatusUpdate(_ kinds.Request, new, old *resourcev1alpha3.ResourcePoolStatusRequest) field.ErrorList {
	path, s := field.NewPath("status"), new.Status
	var errs field.ErrorList
	if old.Status != nil {
		if errs = check.Immutable(s, old.Status, path); len(errs) == 0 {
			return nil
		}
	}
	if s == nil {
		return errs
	}
	if old.Status == nil {
		errs = append(errs, metav1validation.ValidateConditions(s.Conditions, path.Child("conditions"))...)
	}
	return append(errs, poolStatus(s, old.Status, path)...)
}

// poolStatus judges what a status says, and of old only what it says otherwise.
func poolStatus(s, old *resourcev1alpha3.ResourcePoolStatusRequestStatus, path *field.Path) field.ErrorList {
	if old == nil {
		old = &resourcev1alpha3.ResourcePoolStatusRequestStatus{}
	}
	var errs field.ErrorList
	switch at := path.Child("poolCount"); {
	case s.PoolCount == nil:
		errs = append(errs, field.Required(at, ""))
	case old.PoolCount == nil || *old.PoolCount != *s.PoolCount:
		errs = append(errs, minimum(s.PoolCount, 0, at)...)
	}
	if at := path.Child("pools"); !equal.Semantic(s.Pools, old.Pools) {
		if n := len(s.Pools); n > maxPools {
			errs = append(errs, field.TooMany(at, n, maxPools))
		} else {
			for i := range s.Pools {
				errs = append(errs, pooled(&s.Pools[i], at.Index(i))...)
			}
		}
	}
	if at := path.Child("conditions"); !equal.Semantic(s.Conditions, old.Conditions) {
		if n := len(s.Conditions); n > maxPoolConditions {
			return append(errs, field.TooMany(at, n, maxPoolConditions))
		}
		errs = append(errs, validate.Unique(context.Background(), operation.Operation{}, at, s.Conditions, nil,
			func(a, b metav1.Condition) bool { return a.Type == b.Type })...)
	}
	return errs
}

func pooled(p *resourcev1alpha3.PoolStatus, path *field.Path) field.ErrorList {
	errs := poolDriver(p.Driver, path.Child("driver"))
	if at := path.Child("poolName"); p.PoolName == "" {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, poolName(p.PoolName, at)...)
	}
	if at := path.Child("generation"); p.Generation == 0 {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, minimum(&p.Generation, 0, at)...)
	}
	errs = append(errs, minimum(p.ResourceSliceCount, 1, path.Child("resourceSliceCount"))...)
	errs = append(errs, minimum(p.TotalDevices, 0, path.Child("totalDevices"))...)
	errs = append(errs, minimum(p.AllocatedDevices, 0, path.Child("allocatedDevices"))...)
	errs = append(errs, minimum(p.AvailableDevices, 0, path.Child("availableDevices"))...)
	errs = append(errs, minimum(p.UnavailableDevices, 0, path.Child("unavailableDevices"))...)
	if p.NodeName != nil {
		errs = append(errs, check.Subdomain(*p.NodeName, path.Child("nodeName"))...)
	}
	if e := p.ValidationError; e != nil && len(*e) > maxPoolError {
		errs = append(errs, field.TooLong(path.Child("validationError"), *e, maxPoolError))
	}
	return errs
}

func minimum[T int32 | int64](n *T, least T, path *field.Path) field.ErrorList {
	if n == nil || *n >= least {
		return nil
	}
	return field.ErrorList{field.Invalid(path, *n, content.MinError(least))}
}

// poolDriver is less strict than requireDriver: there is no bound but that of domains.
func poolDriver(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return check.Messages(path, name, content.IsDNS1123SubdomainCaseless(name))
}

// poolName judges domains between slashes, and names the one that is wrong.
func poolName(name string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(name) > maxPoolNameSegment {
		errs = append(errs, field.TooLong(path, name, maxPoolNameSegment))
	}
	i := 0
	for part := range strings.SplitSeq(name, "/") {
		if part == "" {
			errs = append(errs, field.Invalid(path, name, fmt.Sprintf("segment %d: must not be empty", i)))
		} else {
			for _, message := range utilvalidation.IsDNS1123Subdomain(part) {
				errs = append(errs, field.Invalid(path, part, fmt.Sprintf("segment %d: %s", i, message)))
			}
		}
		i++
	}
	return errs
}
