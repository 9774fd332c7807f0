// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	dracel "k8s.io/dynamic-resource-allocation/cel"

	"kogge.dev/kogge/expr"
)

// selectors judges device selectors, their expressions included.
func selectors(list []resourcev1.DeviceSelector, path *field.Path) field.ErrorList {
	if len(list) > resourcev1.DeviceSelectorsMaxSize {
		return field.ErrorList{field.TooMany(path, len(list), resourcev1.DeviceSelectorsMaxSize)}
	}
	var errs field.ErrorList
	for i, s := range list {
		at := path.Index(i).Child("cel")
		if s.CEL == nil {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		errs = append(errs, deviceExpression(s.CEL.Expression, at.Child("expression"))...)
	}
	return errs
}

// deviceExpression compiles an expression over a device; one that is too long is not even compiled.
func deviceExpression(expression string, path *field.Path) field.ErrorList {
	if len(expression) > resourcev1.CELSelectorExpressionMaxLength {
		return field.ErrorList{field.TooLong(path, "", resourcev1.CELSelectorExpressionMaxLength)}
	}
	features := dracel.Features{EnableConsumableCapacity: true}
	switch result := dracel.GetCompiler(features).CompileCELExpression(expression, dracel.Options{}); {
	case result.Error != nil:
		return field.ErrorList{expr.FieldError(path, expression, result.Error)}
	case result.MaxCost > resourcev1.CELSelectorExpressionMaxCost:
		return field.ErrorList{field.Forbidden(path, "too complex, exceeds cost limit")}
	}
	return nil
}
