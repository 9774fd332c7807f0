// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	resourcev1alpha3 "k8s.io/api/resource/v1alpha3"
	resourcev1beta2 "k8s.io/api/resource/v1beta2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/table"
)

// deviceTaintRule is served on request only. It is stored in its oldest version, as upstream does. Nothing acts on it: in v1.36 that takes
// a feature gate besides.
func deviceTaintRule() *kinds.Kind {
	const name = "DeviceTaintRule"
	doc := resourcev1beta2.DeviceTaint{}.SwaggerDoc()
	alpha := resourcev1alpha3.SchemeGroupVersion.WithKind(name)
	return kinds.Define(kinds.Kind{
		Resource:       "devicetaintrules",
		Singular:       "devicetaintrule",
		AnswersDeleted: true,
		Reset:          map[string][]string{"status": {"metadata", "spec"}},
		Storage:        kinds.Storage{Prefix: "devicetaintrules"},
		OnRequest: []kinds.Served{
			kinds.Mirror[resourcev1beta2.DeviceTaintRule, resourcev1beta2.DeviceTaintRuleList, resourcev1alpha3.DeviceTaintRule](beta2.WithKind(name)),
			kinds.Plain[resourcev1alpha3.DeviceTaintRule, resourcev1alpha3.DeviceTaintRuleList](alpha),
		},
		Subresources: []kinds.Subresource{
			kinds.Status(func(_ kinds.Request, new, old *resourcev1alpha3.DeviceTaintRule) {
				new.Spec = old.Spec
				metav1.ResetObjectMetaForStatus(&new.ObjectMeta, &old.ObjectMeta)
			}, validateRuleStatus),
		},
	}, alpha,
		func() *resourcev1alpha3.DeviceTaintRule { return &resourcev1alpha3.DeviceTaintRule{} },
		func() runtime.Object { return &resourcev1alpha3.DeviceTaintRuleList{} },
		kinds.Strategy[*resourcev1alpha3.DeviceTaintRule]{
			Default: func(r *resourcev1alpha3.DeviceTaintRule) {
				if t := &r.Spec.Taint; t.TimeAdded == nil {
					t.TimeAdded = seconds(metav1.Now()) // here and not later, so that it counts as the client's
				}
			},
			PrepareCreate: func(_ kinds.Request, r *resourcev1alpha3.DeviceTaintRule) {
				r.Status = resourcev1alpha3.DeviceTaintRuleStatus{}
				r.Generation = 1
			},
			PrepareUpdate: func(req kinds.Request, new, old *resourcev1alpha3.DeviceTaintRule) {
				new.Status = old.Status
				// Who changes the effect and carries the time along means the time of the old one.
				if was, is := &old.Spec.Taint, &new.Spec.Taint; is.Effect != was.Effect && is.TimeAdded.Equal(was.TimeAdded) {
					is.TimeAdded = seconds(req.Now)
				}
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate: func(_ kinds.Request, r *resourcev1alpha3.DeviceTaintRule) field.ErrorList {
				return validateRule(r, nil)
			},
			ValidateUpdate: func(_ kinds.Request, new, old *resourcev1alpha3.DeviceTaintRule) field.ErrorList {
				return validateRule(new, old)
			},
			Columns: []metav1.TableColumnDefinition{
				table.Name(), table.Text("Key", doc["key"]), table.Text("Value", doc["value"]), table.Text("Effect", doc["effect"]),
				table.Text("TimeAdded", doc["timeAdded"]), table.Age(),
			},
			Row: func(r *resourcev1alpha3.DeviceTaintRule, now time.Time) []any {
				t, added := &r.Spec.Taint, ""
				if t.TimeAdded != nil {
					added = table.Since(*t.TimeAdded, now)
				}
				return []any{r.Name, t.Key, t.Value, string(t.Effect), added, table.Since(r.CreationTimestamp, now)}
			},
		})
}

// seconds is a time as the encodings carry it.
func seconds(t metav1.Time) *metav1.Time { return &metav1.Time{Time: t.Truncate(time.Second)} }

// validateRule accepts the effect that old has, whatever it is.
func validateRule(r, old *resourcev1alpha3.DeviceTaintRule) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if s := r.Spec.DeviceSelector; s != nil {
		at := path.Child("deviceSelector")
		if s.Driver != nil {
			errs = append(errs, requireDriver(*s.Driver, at.Child("driver"))...)
		}
		if s.Pool != nil {
			errs = append(errs, requirePool(*s.Pool, at.Child("pool"))...)
		}
		if s.Device != nil {
			errs = append(errs, check.Label(*s.Device, at.Child("device"))...)
		}
	}
	t := resourcev1.DeviceTaint{Key: r.Spec.Taint.Key, Value: r.Spec.Taint.Value, Effect: resourcev1.DeviceTaintEffect(r.Spec.Taint.Effect)}
	if old != nil && old.Spec.Taint.Effect == r.Spec.Taint.Effect {
		t.Effect = resourcev1.DeviceTaintEffectNone
	}
	return append(errs, taint(&t, path.Child("taint"))...)
}

func validateRuleStatus(_ kinds.Request, new, _ *resourcev1alpha3.DeviceTaintRule) field.ErrorList {
	path := field.NewPath("status", "conditions")
	errs := metav1validation.ValidateConditions(new.Status.Conditions, path)
	if n := len(new.Status.Conditions); n > resourcev1alpha3.DeviceTaintRuleStatusMaxConditions {
		errs = append(errs, field.TooMany(path, n, resourcev1alpha3.DeviceTaintRuleStatusMaxConditions))
	}
	return errs
}
