// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/apiextensions"
)

// Bounds of what rules may cost, by estimate: one rule, and all of a definition.
const (
	maxRuleCost       = 10_000_000
	maxDefinitionCost = 100_000_000
)

// Judge validates definitions. Besides what their descriptor finds, validation rules must compile and be affordable, and defaults must be valid: that
// needs a CEL compiler and the schema engine, which descriptors of kinds can't reach. A schema of which something else is wrong is not looked at.
func Judge(ctx context.Context, _ kinds.Request, obj, before kinds.Object) field.ErrorList {
	crd, ok := obj.(*apiextensionsv1.CustomResourceDefinition)
	if !ok {
		return nil
	}
	old, _ := before.(*apiextensionsv1.CustomResourceDefinition)
	schemas, errs := apiextensions.Validate(crd, old)
	if old != nil && equal.Semantic(old.Spec, crd.Spec) {
		return errs
	}
	return append(errs, checkRules(ctx, schemas)...)
}

// Judged are the resources that Judge is about.
func Judged() map[schema.GroupResource]rest.Judge {
	return map[schema.GroupResource]rest.Judge{{Group: apiextensionsv1.GroupName, Resource: "customresourcedefinitions"}: Judge}
}

func checkRules(ctx context.Context, schemas []apiextensions.Schema) field.ErrorList {
	var errs field.ErrorList
	compiler := newCompiler()
	for _, judged := range schemas {
		s, path := judged.Structural, judged.Path
		if less, some := withDefaults(s); some {
			defaultErrs, err := defaulting.ValidateDefaults(ctx, path, &less, true, true)
			if err != nil {
				errs = append(errs, field.Invalid(path, "", err.Error()))
			}
			errs = append(errs, defaultErrs...)
			if err != nil || len(defaultErrs) > 0 {
				continue
			}
		}
		c := &ruleChecker{compiler: compiler}
		c.walk(ctx, s, path, place{root: true, times: 1})
		errs = append(errs, c.errs...)
		if c.total > maxDefinitionCost {
			for _, one := range c.expensive {
				errs = append(errs, field.Forbidden(one.path, "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"))
			}
			errs = append(errs, field.Forbidden(path, costText("x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema", c.total, maxDefinitionCost)))
		}
	}
	return errs
}

// place is where in a schema a rule stands.
type place struct {
	// root is set for the whole object, which has the fields of every object, as has what is embedded.
	root bool
	// times is how often the rule runs at most; 0 means that nothing bounds it.
	times uint64
	// uncorrelatable names the list above whose items can't be matched with those of the old object, for rules about oldSelf.
	uncorrelatable string
}

type ruleChecker struct {
	compiler *compiler
	errs     field.ErrorList
	total    uint64
	// expensive are the rules that cost most, the dearest first.
	expensive []ruleCost
}

type ruleCost struct {
	path *field.Path
	cost uint64
}

func (c *ruleChecker) walk(ctx context.Context, s *structuralschema.Structural, path *field.Path, at place) {
	if len(s.XValidations) > 0 {
		if err := ctx.Err(); err != nil { // It may take long, and whoever asked is gone.
			c.errs = append(c.errs, field.InternalError(path, err))
			return
		}
		c.check(s, path, at)
	}
	names := make([]string, 0, len(s.Properties))
	for name := range s.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	var prop structuralschema.Structural // one for all: nothing points to it afterwards
	for _, name := range names {
		prop = s.Properties[name]
		c.walk(ctx, &prop, path.Child("properties").Key(name), place{times: at.times, uncorrelatable: at.uncorrelatable})
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		var limit *int64
		if s.ValueValidation != nil {
			limit = s.ValueValidation.MaxProperties
		}
		c.walk(ctx, s.AdditionalProperties.Structural, path.Child("additionalProperties"), place{times: multiply(at.times, limit), uncorrelatable: at.uncorrelatable})
	}
	if s.Items != nil {
		var limit *int64
		if s.ValueValidation != nil {
			limit = s.ValueValidation.MaxItems
		}
		next := place{times: multiply(at.times, limit), uncorrelatable: at.uncorrelatable}
		if next.uncorrelatable == "" && (s.XListType == nil || *s.XListType != "map") {
			next.uncorrelatable = path.String()
		}
		c.walk(ctx, s.Items, path.Child("items"), next)
	}
}

// multiply keeps "unbounded" (0) and never overflows.
func multiply(times uint64, limit *int64) uint64 {
	if times == 0 || limit == nil {
		return 0
	}
	return product(times, uint64(max(*limit, 0)))
}

func product(a, b uint64) uint64 {
	if a != 0 && b > math.MaxUint64/a {
		return math.MaxUint64
	}
	return a * b
}

func (c *ruleChecker) check(s *structuralschema.Structural, path *field.Path, at place) {
	base := path.Child("x-kubernetes-validations")
	verdicts, err := c.compiler.compile(s, at.root || s.XEmbeddedResource)
	if err != nil {
		c.errs = append(c.errs, field.InternalError(base, err))
		return
	}
	for i, v := range verdicts {
		rule := s.XValidations[i]
		p := base.Index(i)
		if strings.TrimSpace(rule.FieldPath) != "" && !strings.Contains(rule.FieldPath, "\n") {
			if _, _, err := schemacel.ValidFieldPath(rule.FieldPath, s); err != nil {
				c.errs = append(c.errs, field.Invalid(p.Child("fieldPath"), rule.FieldPath, "must be a valid path"))
			}
		}
		times := at.times
		if times == 0 {
			times = v.cardinality
		}
		cost := product(v.cost, times)
		if cost > maxRuleCost {
			c.errs = append(c.errs, field.Forbidden(p.Child("rule"), costText("estimated rule cost", cost, maxRuleCost)))
		}
		c.charge(p.Child("rule"), cost)
		if v.err != nil {
			c.errs = append(c.errs, field.Invalid(p.Child("rule"), rule, v.err.Error()))
		}
		switch {
		case v.usesOldSelf && at.uncorrelatable != "":
			c.errs = append(c.errs, field.Invalid(p.Child("rule"), rule.Rule, fmt.Sprintf("oldSelf cannot be used on the uncorrelatable portion of the schema within %v", at.uncorrelatable)))
		case !v.usesOldSelf && rule.OptionalOldSelf != nil:
			c.errs = append(c.errs, field.Invalid(p.Child("optionalOldSelf"), *rule.OptionalOldSelf, "may not be set if oldSelf is not used in rule"))
		}
		if v.messageErr != nil {
			c.errs = append(c.errs, field.Invalid(p.Child("messageExpression"), rule, v.messageErr.Error()))
		}
		if v.messageCost > maxRuleCost {
			c.errs = append(c.errs, field.Forbidden(p.Child("messageExpression"), costText("estimated messageExpression cost", v.messageCost, maxRuleCost)))
		}
		c.charge(p.Child("messageExpression"), v.messageCost)
	}
}

func (c *ruleChecker) charge(path *field.Path, cost uint64) {
	const named = 4 // as many are told of, if each makes up a hundredth of the limit
	if c.total > math.MaxUint64-cost {
		c.total = math.MaxUint64
	} else {
		c.total += cost
	}
	if cost < maxDefinitionCost/100 {
		return
	}
	c.expensive = append(c.expensive, ruleCost{path, cost})
	slices.SortStableFunc(c.expensive, func(a, b ruleCost) int { return cmp.Compare(b.cost, a.cost) })
	c.expensive = c.expensive[:min(len(c.expensive), named)]
}

func costText(name string, cost, limit uint64) string {
	factor := float64(cost) / float64(limit)
	text := fmt.Sprintf("%.1fx", factor)
	switch {
	case factor > 100:
		text = "more than 100x"
	case factor < 1.5:
		text = fmt.Sprintf("%fx", factor)
	}
	return fmt.Sprintf("%s exceeds budget by factor of %s (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)", name, text)
}
