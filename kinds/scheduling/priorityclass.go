// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package scheduling describes the kinds of the scheduling.k8s.io API group.
package scheduling

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

// HighestUserPriority is the highest value of a class that is not the system's; names of system classes begin with
// SystemPrefix.
const (
	HighestUserPriority = int32(1_000_000_000)
	SystemPrefix        = "system-"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind { return []*kinds.Kind{priorityClass()} }

// SystemClasses are the classes that the system itself makes, and the only ones that may be named as they are.
func SystemClasses() []*schedulingv1.PriorityClass {
	return []*schedulingv1.PriorityClass{
		{
			ObjectMeta:  metav1.ObjectMeta{Name: SystemPrefix + "cluster-critical"},
			Value:       2 * HighestUserPriority,
			Description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
		},
		{
			ObjectMeta:  metav1.ObjectMeta{Name: SystemPrefix + "node-critical"},
			Value:       2*HighestUserPriority + 1000,
			Description: "Used for system critical pods that must not be moved from their current node.",
		},
	}
}

func priorityClass() *kinds.Kind {
	doc := schedulingv1.PriorityClass{}.SwaggerDoc()
	return kinds.Define(kinds.Kind{
		Resource:   "priorityclasses",
		Singular:   "priorityclass",
		ShortNames: []string{"pc"},
		Storage:    kinds.Storage{Prefix: "priorityclasses"},
		Lasting: func(name string) string {
			if slices.ContainsFunc(SystemClasses(), func(c *schedulingv1.PriorityClass) bool { return c.Name == name }) {
				return "this is a system priority class and cannot be deleted"
			}
			return ""
		},
	}, schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"),
		func() *schedulingv1.PriorityClass { return &schedulingv1.PriorityClass{} },
		func() runtime.Object { return &schedulingv1.PriorityClassList{} },
		kinds.Strategy[*schedulingv1.PriorityClass]{
			Default: func(c *schedulingv1.PriorityClass) {
				c.PreemptionPolicy = new(ptr.Deref(c.PreemptionPolicy, corev1.PreemptLowerPriority))
			},
			PrepareCreate:  func(_ kinds.Request, c *schedulingv1.PriorityClass) { c.Generation = 1 },
			Validate:       validate,
			ValidateUpdate: validateUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Number("Value", doc["value"]),
				table.Flag("Global-Default", doc["globalDefault"]),
				table.Age(),
				table.Text("PreemptionPolicy", doc["preemptionPolicy"]),
			},
			Row: func(c *schedulingv1.PriorityClass, now time.Time) []any {
				return []any{c.Name, int64(c.Value), c.GlobalDefault, table.Since(c.CreationTimestamp, now), table.Or(c.PreemptionPolicy, "")}
			},
		})
}

func validate(_ kinds.Request, c *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if strings.HasPrefix(c.Name, SystemPrefix) {
		if err := mismatch(c); err != nil {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"), fmt.Sprintf(
				"priority class names with '%s' prefix are reserved for system use only. error: %v", SystemPrefix, err,
			)))
		}
	} else if c.Value > HighestUserPriority {
		errs = append(errs, field.Forbidden(field.NewPath("value"),
			fmt.Sprintf("maximum allowed value of a user defined priority is %d", HighestUserPriority)))
	}
	return append(errs, validatePreemption(c)...)
}

// mismatch says how a class with a system name differs from the system's own.
func mismatch(c *schedulingv1.PriorityClass) error {
	for _, known := range SystemClasses() {
		if known.Name != c.Name {
			continue
		}
		switch {
		case known.Value != c.Value:
			return fmt.Errorf("value of %s PriorityClass must be %d", known.Name, known.Value)
		case known.GlobalDefault != c.GlobalDefault:
			return fmt.Errorf("globalDefault of %s PriorityClass must be %t", known.Name, known.GlobalDefault)
		}
		return nil
	}
	return fmt.Errorf("%s is not a known system priority class", c.Name)
}

func validateUpdate(_ kinds.Request, new, old *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if new.Value != old.Value {
		errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
	}
	if ptr.Deref(new.PreemptionPolicy, "") != ptr.Deref(old.PreemptionPolicy, "") {
		errs = append(errs, field.Invalid(field.NewPath("preemptionPolicy"), new.PreemptionPolicy, "field is immutable"))
	}
	return errs
}

func validatePreemption(c *schedulingv1.PriorityClass) field.ErrorList {
	allowed := []corev1.PreemptionPolicy{corev1.PreemptLowerPriority, corev1.PreemptNever}
	switch p := c.PreemptionPolicy; {
	case p == nil || *p == allowed[0] || *p == allowed[1]:
		return nil
	case *p == "":
		return field.ErrorList{field.Required(field.NewPath("preemptionPolicy"), "")}
	default:
		return field.ErrorList{field.NotSupported(field.NewPath("preemptionPolicy"), *p, allowed)}
	}
}
