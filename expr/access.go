// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"context"

	authorizationv1 "k8s.io/api/authorization/v1"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
)

// Access is a list of compiled conditions over what somebody wants to do ("request", the spec of a SubjectAccessReview).
type Access struct{ matcher authorizationcel.CELMatcher }

// AddAccess compiles a condition and adds it to a list, which is not used yet.
func (c *Compiler) AddAccess(to *Access, expression string) error {
	compiled, err := c.access().CompileCELExpression(&authorizationcel.SubjectAccessReviewMatchCondition{Expression: expression})
	if err != nil {
		return err
	}
	m := &to.matcher
	m.CompilationResults = append(m.CompilationResults, compiled)
	m.UsesFieldSelector = m.UsesFieldSelector || compiled.UsesFieldSelector
	m.UsesLabelSelector = m.UsesLabelSelector || compiled.UsesLabelSelector
	return nil
}

// Len is the number of conditions.
func (a *Access) Len() int { return len(a.matcher.CompilationResults) }

// Eval reports whether all conditions hold. One that is false decides, whatever else went wrong.
func (a *Access) Eval(ctx context.Context, review *authorizationv1.SubjectAccessReview) (bool, error) {
	return a.matcher.Eval(ctx, review)
}
