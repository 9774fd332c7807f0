// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

func validateControllerRevision(_ kinds.Request, r *appsv1.ControllerRevision) field.ErrorList {
	errs := check.Counts(nil, check.Count{Field: "revision", Value: r.Revision})
	path := field.NewPath("data")
	if r.Data.Raw == nil {
		return append(errs, field.Required(path, "data is mandatory"))
	}
	var value any
	if err := json.Unmarshal(r.Data.Raw, &value); err != nil {
		return append(errs, field.Invalid(path, "<value omitted>", fmt.Sprintf("error parsing data: %v", err)))
	}
	switch value.(type) {
	case nil:
		errs = append(errs, field.Required(path, "data is mandatory"))
	case map[string]any:
	default:
		errs = append(errs, field.Required(path, "data must be a valid JSON object"))
	}
	return errs
}

func validateControllerRevisionUpdate(_ kinds.Request, new, old *appsv1.ControllerRevision) field.ErrorList {
	errs := check.Counts(nil, check.Count{Field: "revision", Value: new.Revision})
	return append(errs, check.Immutable(new.Data, old.Data, field.NewPath("data"))...)
}
