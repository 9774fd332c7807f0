// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
)

// Generated names: prefix plus five characters that form no words.
const (
	suffixLength   = 5
	maxPrefix      = 63 - suffixLength
	suffixAlphabet = "bcdfghjklmnpqrstvwxz2456789"
	nameAttempts   = 8
)

func generateName(prefix string) string {
	if len(prefix) > maxPrefix {
		prefix = prefix[:maxPrefix]
	}
	raw := make([]byte, suffixLength)
	_, _ = rand.Read(raw) // Never fails.
	for i, b := range raw {
		raw[i] = suffixAlphabet[int(b)%len(suffixAlphabet)]
	}
	return prefix + string(raw)
}

// checkNamespace completes the namespace of an object, or refuses one that is not the request's.
func checkNamespace(obj metav1.Object, namespace string) error {
	switch obj.GetNamespace() {
	case namespace:
		return nil
	case "":
		obj.SetNamespace(namespace)
		return nil
	default:
		if namespace == "" {
			obj.SetNamespace("") // Cluster-scoped objects shed a namespace that clients give them.
			return nil
		}
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
}

// checkName compares the name of an object with that of the URL.
func checkName(obj metav1.Object, name, namespace string) error {
	switch {
	case obj.GetName() == "":
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", name))
	case obj.GetName() != name:
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), name))
	case namespace != "" && obj.GetNamespace() != "" && obj.GetNamespace() != namespace:
		return apierrors.NewBadRequest(fmt.Sprintf("the namespace of the object (%s) does not match the namespace on the request (%s)", obj.GetNamespace(), namespace))
	}
	return nil
}

// wipe clears what only the server may set.
func wipe(obj metav1.Object) {
	obj.SetCreationTimestamp(metav1.Time{})
	obj.SetUID("")
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
}

// fill sets what only the server may set on a new object.
func fill(obj metav1.Object, now metav1.Time) {
	obj.SetCreationTimestamp(now)
	obj.SetUID(types.UID(uuid.NewString()))
}

// dedupOwners drops repeated owner references; it returns the UIDs of those dropped.
func dedupOwners(obj metav1.Object) []string {
	refs := obj.GetOwnerReferences()
	if len(refs) < 2 {
		return nil
	}
	var out []metav1.OwnerReference
	var dropped []string
	for _, ref := range refs {
		repeated := false
		for _, have := range out {
			repeated = repeated || have.UID == ref.UID && equal.Semantic(have, ref)
		}
		if repeated {
			dropped = append(dropped, string(ref.UID))
			continue
		}
		out = append(out, ref)
	}
	if len(dropped) > 0 {
		obj.SetOwnerReferences(out)
	}
	return dropped
}

func ownersWarning(dropped []string, admitted bool) []string {
	if len(dropped) == 0 {
		return nil
	}
	when := " "
	if admitted {
		when = " after mutating admission happens"
	}
	return []string{fmt.Sprintf(".metadata.ownerReferences contains duplicate entries%s; API server dedups owner references in 1.20+, "+
		"and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: %s", strings.TrimRight(when, " "), strings.Join(dropped, ", "))}
}

// validateMeta judges metadata on create.
func validateMeta(r *Resource, obj kinds.Object) field.ErrorList {
	k := r.Kind
	check := apivalidation.ValidateNameFunc(apivalidation.NameIsDNSSubdomain)
	if k.ValidateName != nil {
		check = k.ValidateName
	}
	errs := apivalidation.ValidateObjectMetaAccessor(obj, k.Namespaced, check, field.NewPath("metadata"))
	if len(errs) == 0 {
		errs = apivalidation.ValidateObjectMetaAccessor(obj, k.Namespaced, pathSegment, field.NewPath("metadata"))
	}
	if r.Custom != nil || k.FreeFinalizers {
		return errs
	}
	return append(errs, validateFinalizers(obj, nil)...)
}

// standardFinalizers may go without a domain.
var standardFinalizers = []string{"kubernetes", metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents, "customresourcecleanup.apiextensions.k8s.io"}

// validateFinalizers judges the form of finalizers that old does not have.
func validateFinalizers(obj, old metav1.Object) field.ErrorList {
	var errs field.ErrorList
	for i, f := range obj.GetFinalizers() {
		if strings.Contains(f, "/") || slices.Contains(standardFinalizers, f) || old != nil && slices.Contains(old.GetFinalizers(), f) {
			continue
		}
		errs = append(errs, field.Invalid(field.NewPath("metadata", "finalizers").Index(i), f, "name is neither a standard finalizer name nor is it fully qualified"))
	}
	return errs
}

// validateMetaUpdate judges metadata on update.
func validateMetaUpdate(r *Resource, obj, old kinds.Object) field.ErrorList {
	k := r.Kind
	errs := apivalidation.ValidateObjectMetaAccessor(obj, k.Namespaced, pathSegment, field.NewPath("metadata"))
	errs = append(errs, apivalidation.ValidateObjectMetaAccessorUpdate(obj, old, field.NewPath("metadata"))...)
	if r.Custom != nil || k.FreeFinalizers {
		return errs
	}
	return append(errs, validateFinalizers(obj, old)...)
}

// checkPath refuses a name in a path that no object can have.
func checkPath(name string) error {
	if wrong := content.IsPathSegmentName(name); len(wrong) > 0 {
		return apierrors.NewBadRequest(fmt.Sprintf("Name parameter invalid: %q: %s", name, strings.Join(wrong, ";")))
	}
	return nil
}

func pathSegment(name string, prefix bool) []string {
	if prefix {
		return content.IsPathSegmentPrefix(name)
	}
	return content.IsPathSegmentName(name)
}
