// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"fmt"
	"strconv"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxDiscreteValues bounds how many amounts a policy may list; the API's types do not say.
const maxDiscreteValues = 10

// capacity judges how much of a device's capacity one request may take; only devices that are shared have such a policy.
func capacity(c resourcev1.DeviceCapacity, shared bool, path *field.Path) field.ErrorList {
	p := c.RequestPolicy
	if p == nil {
		return nil
	}
	path = path.Child("requestPolicy")
	missing := func(name string) field.ErrorList {
		return field.ErrorList{field.Required(path.Child("default"), "required when "+name+" is defined")}
	}
	switch {
	case !shared:
		return field.ErrorList{field.Forbidden(path, "allowMultipleAllocations must be true")}
	case len(p.ValidValues) > 0 && p.ValidRange != nil:
		return field.ErrorList{field.Forbidden(path, `exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time`)}
	case len(p.ValidValues) > 0 && p.Default == nil:
		return missing("validValues")
	case len(p.ValidValues) > 0:
		return validValues(*p.Default, c.Value, p.ValidValues, path.Child("validValues"))
	case p.ValidRange != nil && p.Default == nil:
		return missing("validRange")
	case p.ValidRange != nil:
		return validRange(*p.Default, c.Value, p.ValidRange, path.Child("validRange"))
	}
	return nil
}

func validValues(preset, most resource.Quantity, list []resource.Quantity, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := 1; i < len(list); i++ {
		if list[i-1].Cmp(list[i]) > 0 {
			errs = append(errs, field.Invalid(path.Index(i), list[i].String(), "values must be sorted in ascending order"))
		}
	}
	found := false
	key := func(q resource.Quantity) string { return strconv.FormatInt(q.Value(), 10) }
	errs = append(errs, set(list, maxDiscreteValues, path, key,
		func(q resource.Quantity, at *field.Path) field.ErrorList {
			found = found || q.Cmp(preset) == 0
			if q.Cmp(most) > 0 {
				return field.ErrorList{field.Invalid(at, q.String(), "option is larger than capacity value: "+most.String())}
			}
			return nil
		})...)
	if !found {
		errs = append(errs, field.Invalid(path, preset.String(), "default value is not valid according to the requestPolicy"))
	}
	return errs
}

func validRange(preset, most resource.Quantity, r *resourcev1.CapacityRequestPolicyRange, path *field.Path) field.ErrorList {
	if r.Min == nil {
		return field.ErrorList{field.Required(path.Child("min"), "required when validRange is defined")}
	}
	var errs field.ErrorList
	above := func(a, b resource.Quantity, name string, value *resource.Quantity, detail string) {
		if a.Cmp(b) > 0 {
			errs = append(errs, field.Invalid(path.Child(name), value.String(), detail))
		}
	}
	above(*r.Min, most, "min", r.Min, "min is larger than capacity value: "+most.String())
	above(*r.Min, preset, "min", &preset, "default is less than min: "+r.Min.String())
	if r.Max != nil {
		above(*r.Min, *r.Max, "max", r.Min, "min is larger than max: "+r.Max.String())
		above(*r.Max, most, "max", r.Max, "max is larger than capacity value: "+most.String())
		above(preset, *r.Max, "max", &preset, "default is more than max: "+r.Max.String())
	}
	if r.Step == nil {
		return errs
	}
	first := r.Min.DeepCopy()
	first.Add(*r.Step)
	above(first, most, "step", r.Step, fmt.Sprintf("one step %s is larger than capacity value: %s", first.String(), most.String()))
	errs = append(errs, onStep(preset, r, path.Child("step"))...)
	if r.Max != nil {
		errs = append(errs, onStep(*r.Max, r, path.Child("step"))...)
	}
	return errs
}

// onStep admits amounts a whole number of steps above the least; a step of nothing never gets anywhere.
func onStep(value resource.Quantity, r *resourcev1.CapacityRequestPolicyRange, path *field.Path) field.ErrorList {
	step := r.Step.Value()
	if step != 0 && (value.Value()-r.Min.Value())%step == 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, value.String(),
		fmt.Sprintf("value is not a multiple of a given step (%s) from (%s)", r.Step.String(), r.Min.String()))}
}
