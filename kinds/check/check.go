// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package check holds validation rules that kinds of several groups share and that the API machinery does not offer.
package check

import (
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Count is a number that may not be negative, with the field that holds it.
type Count struct {
	Field string
	Value int64
}

// Counts judges numbers of one object that may not be negative.
func Counts(path *field.Path, counts ...Count) field.ErrorList {
	var errs field.ErrorList
	for _, c := range counts {
		errs = append(errs, validation.ValidateNonnegativeField(c.Value, path.Child(c.Field))...)
	}
	return errs
}

// Within judges counts that may not exceed a total: detail names it.
func Within(path *field.Path, total int32, detail string, counts ...Count) field.ErrorList {
	var errs field.ErrorList
	for _, c := range counts {
		if c.Value > int64(total) {
			errs = append(errs, field.Invalid(path.Child(c.Field), int32(c.Value), detail)) // came from an int32
		}
	}
	return errs
}

// Optional returns a count for a number that may be absent; an absent one is zero.
func Optional(name string, value *int32) Count {
	if value == nil {
		return Count{Field: name}
	}
	return Count{Field: name, Value: int64(*value)}
}

// NotDecremented judges a counter that may only grow.
func NotDecremented(path *field.Path, value, old *int32) field.ErrorList {
	if old == nil || (value != nil && *value >= *old) {
		return nil
	}
	current := int32(0)
	if value != nil {
		current = *value
	}
	return field.ErrorList{field.Invalid(path, current, "cannot be decremented")}
}

// IntOrPercent judges a number or percentage that may not be negative.
func IntOrPercent(value intstr.IntOrString, path *field.Path) field.ErrorList {
	if value.Type == intstr.Int {
		return validation.ValidateNonnegativeField(int64(value.IntValue()), path)
	}
	var errs field.ErrorList
	for _, msg := range utilvalidation.IsValidPercent(value.StrVal) {
		errs = append(errs, field.Invalid(path, value, msg))
	}
	return errs
}

// AtMost100Percent judges a percentage; plain numbers pass.
func AtMost100Percent(value intstr.IntOrString, path *field.Path) field.ErrorList {
	if percent, ok := percentOf(value); ok && percent > 100 {
		return field.ErrorList{field.Invalid(path, value, "must not be greater than 100%")}
	}
	return nil
}

// IntOrPercentValue returns the plain number, or the number before the percent sign.
func IntOrPercentValue(value intstr.IntOrString) int {
	if percent, ok := percentOf(value); ok {
		return percent
	}
	return value.IntValue()
}

func percentOf(value intstr.IntOrString) (int, bool) {
	if value.Type != intstr.String || len(utilvalidation.IsValidPercent(value.StrVal)) != 0 {
		return 0, false
	}
	percent, err := strconv.Atoi(value.StrVal[:len(value.StrVal)-1])
	return percent, err == nil
}

// Selector judges a label selector; values that are no valid label values are refused.
func Selector(selector *metav1.LabelSelector, path *field.Path) field.ErrorList {
	return metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, path)
}

// LenientSelector is Selector for an update of an object whose stored selector already holds invalid values: those stay allowed.
func LenientSelector(selector, old *metav1.LabelSelector, path *field.Path) field.ErrorList {
	opts := metav1validation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: HasInvalidValue(old)}
	return metav1validation.ValidateLabelSelector(selector, opts, path)
}

// HasInvalidValue reports whether a stored selector breaks the rules of Selector.
func HasInvalidValue(selector *metav1.LabelSelector) bool {
	return selector != nil && len(Selector(selector, nil)) > 0
}

// Empty reports whether a selector names no requirement.
func Empty(selector *metav1.LabelSelector) bool {
	return len(selector.MatchLabels)+len(selector.MatchExpressions) == 0
}

// Messages turns the findings of a string rule into errors.
func Messages(path *field.Path, value any, messages []string) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range messages {
		errs = append(errs, field.Invalid(path, value, msg))
	}
	return errs
}

// Label judges a DNS-1123 label.
func Label(value string, path *field.Path) field.ErrorList {
	return Messages(path, value, utilvalidation.IsDNS1123Label(value))
}

// Subdomain judges a DNS-1123 subdomain.
func Subdomain(value string, path *field.Path) field.ErrorList {
	return Messages(path, value, utilvalidation.IsDNS1123Subdomain(value))
}

// QualifiedName judges a name with an optional prefix, as label keys are.
func QualifiedName(value string, path *field.Path) field.ErrorList {
	return Messages(path, value, utilvalidation.IsQualifiedName(value))
}

// OneOf judges an enumeration that must be set.
func OneOf[T ~string](value T, path *field.Path, allowed ...T) field.ErrorList {
	if slices.Contains(allowed, value) {
		return nil
	}
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return field.ErrorList{field.NotSupported(path, value, allowed)}
}

// Immutable judges a field that may not change.
func Immutable(value, old any, path *field.Path) field.ErrorList {
	return validation.ValidateImmutableField(value, old, path)
}
