// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package flowcontrol

import (
	"fmt"
	"math"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
)

// Bounds of queuing. A flow is dealt its hand of queues from the bits of one hash.
const (
	maxQueues = 10_000_000
	hashBits  = 60
)

func validatePriorityLevel(_ kinds.Request, p *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	var errs field.ErrorList
	if _, found := p.Annotations[zeroSharesAnnotation]; found {
		errs = append(errs, field.Forbidden(field.NewPath("metadata", "annotations"), "annotation '"+zeroSharesAnnotation+"' is forbidden"))
	}
	path := field.NewPath("spec")
	errs = append(errs, validateLevelSpec(p.Name, &p.Spec, path)...)
	errs = append(errs, validateMandatory(p, path)...)
	return append(errs, validateLevelConditions(&p.Status)...)
}

// zeroSharesAnnotation told older versions that zero shares were meant.
const zeroSharesAnnotation = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares"

func validatePriorityLevelUpdate(req kinds.Request, new, _ *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	return validatePriorityLevel(req, new)
}

func validatePriorityLevelStatus(_ kinds.Request, new, _ *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	return validateLevelConditions(&new.Status)
}

func validateLevelConditions(status *flowcontrolv1.PriorityLevelConfigurationStatus) field.ErrorList {
	types := make([]string, len(status.Conditions))
	for i := range status.Conditions {
		types[i] = string(status.Conditions[i].Type)
	}
	return validateConditionTypes(types)
}

// validateMandatory keeps the two levels that the server can't do without as they are; shares of the exempt one may change.
func validateMandatory(p *flowcontrolv1.PriorityLevelConfiguration, path *field.Path) field.ErrorList {
	fixed, mandatory := mandatoryPriorityLevels()[p.Name]
	if !mandatory {
		return nil
	}
	have, except := *p.Spec.DeepCopy(), ""
	if p.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt {
		have.Exempt = fixed.Exempt
		except = " except the 'spec.exempt' field"
	}
	if equal.Semantic(have, fixed) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, p.Spec, fmt.Sprintf("spec of '%s'%s must equal the fixed value", p.Name, except))}
}

func validateLevelSpec(name string, spec *flowcontrolv1.PriorityLevelConfigurationSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	exempt := spec.Type == flowcontrolv1.PriorityLevelEnablementExempt
	if exempt != (name == flowcontrolv1.PriorityLevelConfigurationNameExempt) {
		errs = append(errs, field.Invalid(path.Child("type"), spec.Type, "must be 'Exempt' if and only if `name` is 'exempt'"))
	}
	switch spec.Type {
	case flowcontrolv1.PriorityLevelEnablementExempt:
		if spec.Limited != nil {
			errs = append(errs, field.Forbidden(path.Child("limited"), "must be nil if the type is not Limited"))
		}
		if e := spec.Exempt; e != nil {
			errs = append(errs, validateShares(e.NominalConcurrencyShares, e.LendablePercent, path.Child("exempt"))...)
		}
	case flowcontrolv1.PriorityLevelEnablementLimited:
		if spec.Exempt != nil {
			errs = append(errs, field.Forbidden(path.Child("exempt"), "must be nil if the type is Limited"))
		}
		if spec.Limited == nil {
			errs = append(errs, field.Required(path.Child("limited"), "must not be empty when type is Limited"))
		} else {
			errs = append(errs, validateLimited(spec.Limited, path.Child("limited"))...)
		}
	case "":
		errs = append(errs, field.Required(path.Child("type"), ""))
	default:
		errs = append(errs, field.NotSupported(path.Child("type"), spec.Type, []flowcontrolv1.PriorityLevelEnablement{
			flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited,
		}))
	}
	return errs
}

func validateShares(shares, lendable *int32, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if shares != nil && *shares < 0 {
		errs = append(errs, field.Invalid(path.Child("nominalConcurrencyShares"), *shares, "must be a non-negative integer"))
	}
	if lendable != nil && (*lendable < 0 || *lendable > 100) {
		errs = append(errs, field.Invalid(path.Child("lendablePercent"), *lendable, "must be between 0 and 100, inclusive"))
	}
	return errs
}

func validateLimited(l *flowcontrolv1.LimitedPriorityLevelConfiguration, path *field.Path) field.ErrorList {
	errs := validateShares(l.NominalConcurrencyShares, l.LendablePercent, path)
	errs = append(errs, validateLimitResponse(&l.LimitResponse, path.Child("limitResponse"))...)
	if ptr.Deref(l.BorrowingLimitPercent, 0) < 0 {
		errs = append(errs, field.Invalid(path.Child("borrowingLimitPercent"), *l.BorrowingLimitPercent, "if specified, must be a non-negative integer"))
	}
	return errs
}

func validateLimitResponse(r *flowcontrolv1.LimitResponse, path *field.Path) field.ErrorList {
	switch r.Type {
	case flowcontrolv1.LimitResponseTypeReject:
		if r.Queuing != nil {
			return field.ErrorList{field.Forbidden(path.Child("queuing"), "must be nil if limited.limitResponse.type is not Limited")}
		}
		return nil
	case flowcontrolv1.LimitResponseTypeQueue:
		if r.Queuing == nil {
			return field.ErrorList{field.Required(path.Child("queuing"), "must not be empty if limited.limitResponse.type is Limited")}
		}
		return validateQueuing(r.Queuing, path.Child("queuing"))
	case "":
		return field.ErrorList{field.Required(path.Child("type"), "")}
	}
	return field.ErrorList{field.NotSupported(path.Child("type"), r.Type,
		[]flowcontrolv1.LimitResponseType{flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject})}
}

func validateQueuing(q *flowcontrolv1.QueuingConfiguration, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if q.QueueLengthLimit <= 0 {
		errs = append(errs, field.Invalid(path.Child("queueLengthLimit"), q.QueueLengthLimit, "must be positive"))
	}
	switch at := path.Child("queues"); {
	case q.Queues <= 0:
		errs = append(errs, field.Invalid(at, q.Queues, "must be positive"))
	case q.Queues > maxQueues:
		errs = append(errs, field.Invalid(at, q.Queues, fmt.Sprintf("must not be greater than %d", maxQueues)))
	}
	at := path.Child("handSize")
	switch {
	case q.HandSize <= 0:
		errs = append(errs, field.Invalid(at, q.HandSize, "must be positive"))
	case q.HandSize > q.Queues:
		errs = append(errs, field.Invalid(at, q.HandSize, fmt.Sprintf("should not be greater than queues (%d)", q.Queues)))
	default:
		if math.Ceil(math.Log2(float64(q.Queues))*float64(q.HandSize)) > hashBits {
			errs = append(errs, field.Invalid(at, q.HandSize, fmt.Sprintf(
				"required entropy bits of deckSize %d and handSize %d should not be greater than %d", q.Queues, q.HandSize, hashBits,
			)))
		}
	}
	return errs
}
