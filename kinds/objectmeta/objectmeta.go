// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package objectmeta judges what all kinds share: names, labels, annotations, owners, finalizers and the fields of
// metadata that never change. The API server applies it to every object, so that the kinds' own Validate and
// ValidateUpdate leave metadata out.
package objectmeta

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Scope says whether objects of a kind live in a namespace.
type Scope bool

// The two scopes.
const (
	Cluster    Scope = false
	Namespaced Scope = true
)

// NameFunc returns what is wrong with a name; with prefix it judges a metadata.generateName. A Kind's ValidateName is one.
type NameFunc = func(name string, prefix bool) []string

// Rules for names that several kinds use.
var (
	Subdomain NameFunc = validation.NameIsDNSSubdomain
	Label     NameFunc = validation.NameIsDNSLabel
	Label1035 NameFunc = validation.NameIsDNS1035Label
)

// PathSegment accepts any name that can stand in a URL path; with prefix it may end in anything.
func PathSegment(name string, prefix bool) []string {
	if prefix {
		return pathSegmentParts(name)
	}
	if name == "." || name == ".." {
		return []string{fmt.Sprintf("may not be '%s'", name)}
	}
	return pathSegmentParts(name)
}

// NotPrefix is Subdomain for names, and accepts any prefix: the rules of some kinds are written over names alone.
func NotPrefix(name string, prefix bool) []string {
	if prefix {
		return nil
	}
	return Subdomain(name, false)
}

func pathSegmentParts(name string) []string {
	var msgs []string
	for _, illegal := range []string{"/", "%"} {
		if strings.Contains(name, illegal) {
			msgs = append(msgs, fmt.Sprintf("may not contain '%s'", illegal))
		}
	}
	return msgs
}

// Validate judges the metadata of an object about to be created; a generated name must be in place. A nil name rule
// stands for Subdomain.
func Validate(meta metav1.Object, scope Scope, name NameFunc, path *field.Path) field.ErrorList {
	if name == nil {
		name = Subdomain
	}
	errs := validation.ValidateObjectMetaAccessor(meta, bool(scope), validation.ValidateNameFunc(name), path)
	return append(errs, validateFinalizers(meta, path)...)
}

// ValidateUpdate judges the metadata that is to replace old's.
func ValidateUpdate(meta, old metav1.Object, path *field.Path) field.ErrorList {
	errs := validation.ValidateObjectMetaAccessorUpdate(meta, old, path)
	errs = append(errs, validation.ValidateFinalizers(meta.GetFinalizers(), path.Child("finalizers"))...)
	return append(errs, validateFinalizers(meta, path)...)
}

// validateFinalizers requires that finalizers without a prefix are those that Kubernetes itself knows.
func validateFinalizers(meta metav1.Object, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, name := range meta.GetFinalizers() {
		errs = append(errs, validateKnown(name, path.Child("finalizers").Index(i))...)
	}
	return errs
}

// ValidateFinalizer judges a finalizer in a namespace's spec.
func ValidateFinalizer(name string, path *field.Path) field.ErrorList {
	return append(validation.ValidateFinalizerName(name, path), validateKnown(name, path)...)
}

func validateKnown(name string, path *field.Path) field.ErrorList {
	if strings.Contains(name, "/") || standardFinalizer(name) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified")}
}

func standardFinalizer(name string) bool {
	return slices.Contains([]string{
		string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents,
	}, name)
}

// ValidateLabels judges labels.
func ValidateLabels(labels map[string]string, path *field.Path) field.ErrorList {
	return metav1validation.ValidateLabels(labels, path)
}

// ValidateAnnotations judges annotations: their keys and their total size.
func ValidateAnnotations(annotations map[string]string, path *field.Path) field.ErrorList {
	return validation.ValidateAnnotations(annotations, path)
}

// Tolerance says which old mistakes a validation overlooks.
type Tolerance struct {
	// InvalidLabelValues overlooks values in match expressions that no label can have.
	InvalidLabelValues bool
}

// ValidateLabelSelector judges a label selector; a nil one is right.
func ValidateLabelSelector(selector *metav1.LabelSelector, tolerance Tolerance, path *field.Path) field.ErrorList {
	opts := metav1validation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: tolerance.InvalidLabelValues}
	return metav1validation.ValidateLabelSelector(selector, opts, path)
}

// ToleranceFor returns the tolerance that an update needs when old is the stored selector.
func ToleranceFor(old *metav1.LabelSelector) Tolerance {
	return Tolerance{InvalidLabelValues: metav1validation.LabelSelectorHasInvalidLabelValue(old)}
}

// ValidateImmutable refuses a change of a field, by semantic equality.
func ValidateImmutable(value, old any, path *field.Path) field.ErrorList {
	return validation.ValidateImmutableField(value, old, path)
}

// ConvertAge returns a table cell that says how long before now t was.
func ConvertAge(t metav1.Time, now time.Time) any {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t.Time))
}
