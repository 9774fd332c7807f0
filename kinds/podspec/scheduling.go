// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/objectmeta"
)

// ValidateTaintEffect judges the effect of a taint, which must be set.
func ValidateTaintEffect(effect corev1.TaintEffect, at *field.Path) field.ErrorList {
	if effect == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return oneOf(effect, at, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)
}

// ValidateTolerations judges tolerations of a pod, a runtime class or an annotation.
func ValidateTolerations(tolerations []corev1.Toleration, opts Options, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range tolerations {
		t, path := &tolerations[i], at.Index(i)
		if t.Key != "" {
			errs = append(errs, metav1validation.ValidateLabelName(t.Key, path.Child("key"))...)
		} else if t.Operator != corev1.TolerationOpExists {
			errs = append(errs, field.Invalid(path.Child("operator"), t.Operator,
				"operator must be Exists when `key` is empty, which means \"match all values and all keys\""))
		}
		if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
			errs = append(errs, field.Invalid(path.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"))
		}
		errs = append(errs, validateTolerationValue(t, opts, path)...)
		if t.Effect != "" {
			errs = append(errs, ValidateTaintEffect(t.Effect, path.Child("effect"))...)
		}
	}
	return errs
}

func validateTolerationValue(t *corev1.Toleration, opts Options, at *field.Path) field.ErrorList {
	operator := at.Child("operator")
	switch t.Operator {
	case corev1.TolerationOpEqual, "":
		if msgs := validation.IsValidLabelValue(t.Value); len(msgs) > 0 {
			return field.ErrorList{field.Invalid(operator, t.Value, strings.Join(msgs, ";"))}
		}
	case corev1.TolerationOpExists:
		if t.Value != "" {
			return field.ErrorList{field.Invalid(operator, t.Value, "value must be empty when `operator` is 'Exists'")}
		}
	case corev1.TolerationOpLt, corev1.TolerationOpGt:
		if !opts.TolerationComparison {
			return field.ErrorList{field.NotSupported(operator, t.Operator, []corev1.TolerationOperator{
				corev1.TolerationOpEqual, corev1.TolerationOpExists, corev1.TolerationOpLt, corev1.TolerationOpGt,
			})}
		}
		errs := check.Messages(at.Child("value"), t.Value, content.IsDecimalInteger(t.Value))
		if _, err := strconv.ParseInt(t.Value, 10, 64); err != nil {
			errs = append(errs, field.Invalid(at.Child("value"), t.Value, err.Error()))
		}
		return errs
	default:
		return field.ErrorList{field.NotSupported(operator, t.Operator, []corev1.TolerationOperator{corev1.TolerationOpEqual, corev1.TolerationOpExists})}
	}
	return nil
}

func validateSpread(constraints []corev1.TopologySpreadConstraint, opts Options, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range constraints {
		c, path := &constraints[i], at.Index(i)
		errs = append(errs, validateSkew(c, path)...)
		if slices.ContainsFunc(constraints[i+1:], func(o corev1.TopologySpreadConstraint) bool {
			return o.TopologyKey == c.TopologyKey && o.WhenUnsatisfiable == c.WhenUnsatisfiable
		}) {
			errs = append(errs, field.Duplicate(path.Child("{topologyKey, whenUnsatisfiable}"), fmt.Sprintf("{%v, %v}", c.TopologyKey, c.WhenUnsatisfiable)))
		}
		errs = append(errs, validateSpreadScope(c, path)...)
		if opts.InvalidSpreadKeys {
			errs = append(errs, validateUnmergedKeys(c, path.Child("matchLabelKeys"))...)
		} else {
			errs = append(errs, validateMatchKeys(c.MatchLabelKeys, nil, c.LabelSelector, path)...)
		}
		if !opts.InvalidSpreadSelector {
			errs = append(errs, objectmeta.ValidateLabelSelector(c.LabelSelector, objectmeta.Tolerance{}, path.Child("labelSelector"))...)
		}
	}
	return errs
}

// validateSkew judges how evenly pods spread, over which domains, and what happens otherwise.
func validateSkew(c *corev1.TopologySpreadConstraint, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.MaxSkew <= 0 {
		errs = append(errs, field.Invalid(at.Child("maxSkew"), int64(c.MaxSkew), "must be greater than zero"))
	}
	if c.TopologyKey == "" {
		errs = append(errs, field.Required(at.Child("topologyKey"), "can not be empty"))
	}
	return append(errs, oneOf(c.WhenUnsatisfiable, at.Child("whenUnsatisfiable"), corev1.DoNotSchedule, corev1.ScheduleAnyway)...)
}

// validateSpreadScope judges which domains and which nodes a constraint counts.
func validateSpreadScope(c *corev1.TopologySpreadConstraint, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.MinDomains != nil {
		if *c.MinDomains <= 0 {
			errs = append(errs, field.Invalid(at.Child("minDomains"), int64(*c.MinDomains), "must be greater than zero"))
		}
		if c.WhenUnsatisfiable != corev1.DoNotSchedule {
			errs = append(errs, field.Invalid(at.Child("minDomains"), c.MinDomains,
				fmt.Sprintf("can only use minDomains if whenUnsatisfiable=%s, not %s", corev1.DoNotSchedule, c.WhenUnsatisfiable)))
		}
	}
	for name, policy := range map[string]*corev1.NodeInclusionPolicy{"nodeAffinityPolicy": c.NodeAffinityPolicy, "nodeTaintsPolicy": c.NodeTaintsPolicy} {
		if policy != nil {
			errs = append(errs, oneOf(*policy, at.Child(name), corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)...)
		}
	}
	return errs
}

// validateUnmergedKeys judges a constraint of a pod from before match label keys were merged into selectors.
func validateUnmergedKeys(c *corev1.TopologySpreadConstraint, at *field.Path) field.ErrorList {
	if len(c.MatchLabelKeys) == 0 {
		return nil
	}
	var errs field.ErrorList
	named := map[string]bool{}
	if c.LabelSelector == nil {
		errs = append(errs, field.Forbidden(at, "must not be specified when labelSelector is not set"))
	} else {
		for key := range c.LabelSelector.MatchLabels {
			named[key] = true
		}
		for _, r := range c.LabelSelector.MatchExpressions {
			named[r.Key] = true
		}
	}
	for i, key := range c.MatchLabelKeys {
		errs = append(errs, metav1validation.ValidateLabelName(key, at.Index(i))...)
		if named[key] {
			errs = append(errs, field.Invalid(at.Index(i), key, "exists in both matchLabelKeys and labelSelector"))
		}
	}
	return errs
}

func validateGates(spec *corev1.PodSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, gate := range spec.ReadinessGates {
		errs = append(errs, check.QualifiedName(string(gate.ConditionType), at.Child("readinessGates").Index(i).Child("conditionType"))...)
	}
	seen := map[string]bool{}
	for i, gate := range spec.SchedulingGates {
		path := at.Child("schedulingGates").Index(i)
		errs = append(errs, check.QualifiedName(gate.Name, path)...)
		if seen[gate.Name] {
			errs = append(errs, field.Duplicate(path, gate.Name))
		}
		seen[gate.Name] = true
	}
	return errs
}
