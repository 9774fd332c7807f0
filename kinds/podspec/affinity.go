// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/objectmeta"
)

const (
	ruleRequired  = "requiredDuringSchedulingIgnoredDuringExecution"
	rulePreferred = "preferredDuringSchedulingIgnoredDuringExecution"
)

func validateAffinity(affinity *corev1.Affinity, opts Options, at *field.Path) field.ErrorList {
	if affinity == nil {
		return nil
	}
	var errs field.ErrorList
	if node := affinity.NodeAffinity; node != nil {
		path := at.Child("nodeAffinity")
		if node.RequiredDuringSchedulingIgnoredDuringExecution != nil {
			errs = append(errs, ValidateNodeSelector(node.RequiredDuringSchedulingIgnoredDuringExecution, opts, path.Child(ruleRequired))...)
		}
		for i, term := range node.PreferredDuringSchedulingIgnoredDuringExecution {
			path := path.Child(rulePreferred).Index(i)
			errs = append(errs, validateWeight(term.Weight, path)...)
			// What no node can have is not wrong where it is only preferred.
			errs = append(errs, validateNodeTerm(term.Preference, Options{InvalidNodeAffinityValues: true}, path.Child("preference"))...)
		}
	}
	if pod := affinity.PodAffinity; pod != nil {
		errs = append(errs, validatePodTerms(pod.RequiredDuringSchedulingIgnoredDuringExecution,
			pod.PreferredDuringSchedulingIgnoredDuringExecution, opts, at.Child("podAffinity"))...)
	}
	if pod := affinity.PodAntiAffinity; pod != nil {
		errs = append(errs, validatePodTerms(pod.RequiredDuringSchedulingIgnoredDuringExecution,
			pod.PreferredDuringSchedulingIgnoredDuringExecution, opts, at.Child("podAntiAffinity"))...)
	}
	return errs
}

func validateWeight(weight int32, at *field.Path) field.ErrorList {
	if weight >= 1 && weight <= 100 {
		return nil
	}
	return field.ErrorList{field.Invalid(at.Child("weight"), weight, "must be in the range 1-100")}
}

// ValidateNodeSelector judges terms of which a node must meet one.
func ValidateNodeSelector(selector *corev1.NodeSelector, opts Options, at *field.Path) field.ErrorList {
	terms := at.Child("nodeSelectorTerms")
	if len(selector.NodeSelectorTerms) == 0 {
		return field.ErrorList{field.Required(terms, "must have at least one node selector term")}
	}
	var errs field.ErrorList
	for i, term := range selector.NodeSelectorTerms {
		errs = append(errs, validateNodeTerm(term, opts, terms.Index(i))...)
	}
	return errs
}

func validateNodeTerm(term corev1.NodeSelectorTerm, opts Options, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range term.MatchExpressions {
		errs = append(errs, validateNodeExpression(&term.MatchExpressions[i], opts, at.Child("matchExpressions").Index(i))...)
	}
	for i := range term.MatchFields {
		errs = append(errs, validateNodeField(&term.MatchFields[i], at.Child("matchFields").Index(i))...)
	}
	return errs
}

func validateNodeExpression(r *corev1.NodeSelectorRequirement, opts Options, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	values := at.Child("values")
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) == 0 {
			errs = append(errs, field.Required(values, "must be specified when `operator` is 'In' or 'NotIn'"))
		}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
		if len(r.Values) > 0 {
			errs = append(errs, field.Forbidden(values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"))
		}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if len(r.Values) != 1 {
			errs = append(errs, field.Required(values, "must be specified single value when `operator` is 'Lt' or 'Gt'"))
		}
	default:
		errs = append(errs, field.Invalid(at.Child("operator"), r.Operator, "not a valid selector operator"))
	}
	errs = append(errs, metav1validation.ValidateLabelName(r.Key, at.Child("key"))...)
	if opts.InvalidNodeAffinityValues {
		return errs
	}
	for i, value := range r.Values {
		errs = append(errs, check.Messages(values.Index(i), value, validation.IsValidLabelValue(value))...)
	}
	return errs
}

// validateNodeField judges a requirement of a node's fields, of which only the name can be asked for.
func validateNodeField(r *corev1.NodeSelectorRequirement, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) != 1 {
			errs = append(errs, field.Required(at.Child("values"), "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"))
		}
	default:
		errs = append(errs, field.Invalid(at.Child("operator"), r.Operator, "not a valid selector operator"))
	}
	if r.Key != metav1.ObjectNameField {
		return append(errs, field.Invalid(at.Child("key"), r.Key, "not a valid field selector key"))
	}
	for i, value := range r.Values {
		errs = append(errs, check.Messages(at.Child("values").Index(i), value, objectmeta.Subdomain(value, false))...)
	}
	return errs
}

// HasInvalidNodeValues reports whether terms hold values that no label can have.
func HasInvalidNodeValues(terms []corev1.NodeSelectorTerm) bool {
	for _, term := range terms {
		for _, r := range term.MatchExpressions {
			for _, value := range r.Values {
				if len(validation.IsValidLabelValue(value)) > 0 {
					return true
				}
			}
		}
	}
	return false
}

func validatePodTerms(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm, opts Options, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range required {
		errs = append(errs, validatePodTerm(&required[i], opts, at.Child(ruleRequired).Index(i))...)
	}
	for i := range preferred {
		path := at.Child(rulePreferred).Index(i)
		errs = append(errs, validateWeight(preferred[i].Weight, path)...)
		errs = append(errs, validatePodTerm(&preferred[i].PodAffinityTerm, opts, path.Child("podAffinityTerm"))...)
	}
	return errs
}

func validatePodTerm(term *corev1.PodAffinityTerm, opts Options, at *field.Path) field.ErrorList {
	errs := validateTermSelectors(term, opts, at)
	for _, name := range term.Namespaces {
		errs = append(errs, check.Label(name, at.Child("namespace"))...)
	}
	errs = append(errs, validateMatchKeys(term.MatchLabelKeys, term.MismatchLabelKeys, term.LabelSelector, at)...)
	if term.TopologyKey == "" {
		errs = append(errs, field.Required(at.Child("topologyKey"), "can not be empty"))
	}
	return append(errs, metav1validation.ValidateLabelName(term.TopologyKey, at.Child("topologyKey"))...)
}

func validateTermSelectors(term *corev1.PodAffinityTerm, opts Options, at *field.Path) field.ErrorList {
	tolerance := objectmeta.Tolerance{InvalidLabelValues: opts.InvalidAffinityValues}
	errs := objectmeta.ValidateLabelSelector(term.LabelSelector, tolerance, at.Child("labelSelector"))
	return append(errs, objectmeta.ValidateLabelSelector(term.NamespaceSelector, tolerance, at.Child("namespaceSelector"))...)
}

// validateMatchKeys judges keys whose values are taken from the pod itself. By the time of validation they have been
// merged into the selector, so that a key stands there once; twice means that the client named it there too.
func validateMatchKeys(match, mismatch []string, selector *metav1.LabelSelector, at *field.Path) field.ErrorList {
	errs := validateLabelKeys(match, selector, at.Child("matchLabelKeys"))
	errs = append(errs, validateLabelKeys(mismatch, selector, at.Child("mismatchLabelKeys"))...)
	if selector != nil {
		index, seen := map[string]int{}, map[string]bool{}
		for i, key := range match {
			index[key] = i
		}
		for key := range selector.MatchLabels {
			seen[key] = true
		}
		for _, r := range selector.MatchExpressions {
			if i, ok := index[r.Key]; ok && seen[r.Key] {
				errs = append(errs, field.Invalid(at.Index(i), r.Key, "exists in both matchLabelKeys and labelSelector"))
			}
			seen[r.Key] = true
		}
	}
	for i, key := range match {
		if slices.Contains(mismatch, key) {
			errs = append(errs, field.Invalid(at.Child("matchLabelKeys").Index(i), key, "exists in both matchLabelKeys and mismatchLabelKeys"))
		}
	}
	return errs
}

func validateLabelKeys(keys []string, selector *metav1.LabelSelector, at *field.Path) field.ErrorList {
	if len(keys) == 0 {
		return nil
	}
	if selector == nil {
		return field.ErrorList{field.Forbidden(at, "must not be specified when labelSelector is not set")}
	}
	var errs field.ErrorList
	for i, key := range keys {
		errs = append(errs, metav1validation.ValidateLabelName(key, at.Index(i))...)
	}
	return errs
}

// MergeMatchLabelKeys turns the match label keys of a new pod's affinity and spread constraints into requirements of their
// selectors, with the values that the pod itself has. A missing selector matches nothing and stays so.
func MergeMatchLabelKeys(pod *corev1.Pod) {
	merge := func(selector *metav1.LabelSelector, keys []string, operator metav1.LabelSelectorOperator) {
		if selector == nil {
			return
		}
		for _, key := range keys {
			if value, ok := pod.Labels[key]; ok {
				selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: operator, Values: []string{value}})
			}
		}
	}
	for _, term := range podTermsOf(&pod.Spec) {
		merge(term.LabelSelector, term.MatchLabelKeys, metav1.LabelSelectorOpIn)
		merge(term.LabelSelector, term.MismatchLabelKeys, metav1.LabelSelectorOpNotIn)
	}
	for i := range pod.Spec.TopologySpreadConstraints {
		c := &pod.Spec.TopologySpreadConstraints[i]
		merge(c.LabelSelector, c.MatchLabelKeys, metav1.LabelSelectorOpIn)
	}
}

// podTermsOf returns all terms of a spec's affinity and anti-affinity to pods.
func podTermsOf(spec *corev1.PodSpec) []*corev1.PodAffinityTerm {
	var terms []*corev1.PodAffinityTerm
	add := func(preferred []corev1.WeightedPodAffinityTerm, required []corev1.PodAffinityTerm) {
		for i := range preferred {
			terms = append(terms, &preferred[i].PodAffinityTerm)
		}
		for i := range required {
			terms = append(terms, &required[i])
		}
	}
	if spec.Affinity == nil {
		return nil
	}
	if pod := spec.Affinity.PodAffinity; pod != nil {
		add(pod.PreferredDuringSchedulingIgnoredDuringExecution, pod.RequiredDuringSchedulingIgnoredDuringExecution)
	}
	if pod := spec.Affinity.PodAntiAffinity; pod != nil {
		add(pod.PreferredDuringSchedulingIgnoredDuringExecution, pod.RequiredDuringSchedulingIgnoredDuringExecution)
	}
	return terms
}
