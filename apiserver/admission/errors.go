// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Forbidden refuses what a asks, for the given reason; an error that is Forbidden already is passed on as it is.
func Forbidden(a *Attributes, reason error) error {
	if apierrors.IsForbidden(reason) {
		return reason
	}
	return apierrors.NewForbidden(a.Resource.GroupResource(), a.NameOrUnknown(), reason)
}

// Forbiddenf is Forbidden with a formatted reason.
func Forbiddenf(a *Attributes, format string, args ...any) error {
	return Forbidden(a, fmt.Errorf(format, args...))
}

// NameOrUnknown is the object's name for messages: on create with generateName it is the prefix.
func (a *Attributes) NameOrUnknown() string {
	if a.Name != "" {
		return a.Name
	}
	if a.Object == nil {
		return "Unknown"
	}
	obj, err := meta.Accessor(a.Object)
	switch {
	case err != nil:
		return "Unknown/errorGettingName"
	case obj.GetName() != "":
		return obj.GetName()
	case obj.GetGenerateName() != "":
		return obj.GetGenerateName()
	}
	return "Unknown"
}

// Meta returns the object's metadata, or nil for objects without (connect options).
func (a *Attributes) Meta() metav1.Object {
	if a.Object == nil {
		return nil
	}
	obj, err := meta.Accessor(a.Object)
	if err != nil {
		return nil
	}
	return obj
}
