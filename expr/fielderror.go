// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"
	apiservercel "k8s.io/apiserver/pkg/cel"
)

// FieldError says what is wrong with an expression in a field.
func FieldError(path *field.Path, expression string, err error) *field.Error {
	var problem *apiservercel.Error
	switch {
	case !errors.As(err, &problem):
		return field.InternalError(path, fmt.Errorf("error is not cel error: %w", err))
	case problem.Type == apiservercel.ErrorTypeRequired:
		return field.Required(path, problem.Detail)
	case problem.Type == apiservercel.ErrorTypeInvalid:
		return field.Invalid(path, expression, problem.Detail)
	default:
		return field.InternalError(path, problem)
	}
}
