// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package objectmeta

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var at = field.NewPath("metadata")

// places returns the types and fields of errors; the messages are apimachinery's own.
func places(errs field.ErrorList) []string {
	var out []string
	for _, err := range errs {
		out = append(out, string(err.Type)+" "+err.Field)
	}
	return out
}

func TestValidate(t *testing.T) {
	owner := func(kind string, controller bool) metav1.OwnerReference {
		return metav1.OwnerReference{APIVersion: "v1", Kind: kind, Name: "o", UID: "u", Controller: new(controller)}
	}
	long := strings.Repeat("a", 256<<10)
	for name, c := range map[string]struct {
		meta  metav1.ObjectMeta
		scope Scope
		want  []string
	}{
		"right":                      {metav1.ObjectMeta{Name: "a.b", Namespace: "n"}, Namespaced, nil},
		"right for the cluster":      {metav1.ObjectMeta{Name: "a.b"}, Cluster, nil},
		"no name":                    {metav1.ObjectMeta{Namespace: "n"}, Namespaced, []string{"FieldValueRequired metadata.name"}},
		"no namespace":               {metav1.ObjectMeta{Name: "a"}, Namespaced, []string{"FieldValueRequired metadata.namespace"}},
		"namespace for the cluster":  {metav1.ObjectMeta{Name: "a", Namespace: "n"}, Cluster, []string{"FieldValueForbidden metadata.namespace"}},
		"name in capitals":           {metav1.ObjectMeta{Name: "A"}, Cluster, []string{"FieldValueInvalid metadata.name"}},
		"prefix in capitals":         {metav1.ObjectMeta{GenerateName: "Ab-", Name: "a"}, Cluster, []string{"FieldValueInvalid metadata.generateName"}},
		"prefix that ends in a dash": {metav1.ObjectMeta{GenerateName: "a-", Name: "a-x"}, Cluster, nil},
		"negative generation":        {metav1.ObjectMeta{Name: "a", Generation: -1}, Cluster, []string{"FieldValueInvalid metadata.generation"}},
		"label":                      {metav1.ObjectMeta{Name: "a", Labels: map[string]string{"k": "-"}}, Cluster, []string{"FieldValueInvalid metadata.labels"}},
		"annotations too long":       {metav1.ObjectMeta{Name: "a", Annotations: map[string]string{"k": long}}, Cluster, []string{"FieldValueTooLong metadata.annotations"}},
		"two controllers": {
			metav1.ObjectMeta{Name: "a", OwnerReferences: []metav1.OwnerReference{owner("A", true), owner("B", true)}},
			Cluster,
			[]string{"FieldValueInvalid metadata.ownerReferences"},
		},
		"owned by an event": {
			metav1.ObjectMeta{Name: "a", OwnerReferences: []metav1.OwnerReference{owner("Event", false)}},
			Cluster,
			[]string{"FieldValueInvalid metadata.ownerReferences"},
		},
		"finalizers": {metav1.ObjectMeta{Name: "a", Finalizers: []string{"orphan", "example.com/x", "kubernetes"}}, Cluster, nil},
		"unknown finalizer": {
			metav1.ObjectMeta{Name: "a", Finalizers: []string{"example.com/x", "mine"}}, Cluster, []string{"FieldValueInvalid metadata.finalizers[1]"},
		},
		"orphan and foreground": {
			metav1.ObjectMeta{Name: "a", Finalizers: []string{"orphan", "foregroundDeletion"}}, Cluster, []string{"FieldValueInvalid metadata.finalizers"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, places(Validate(&c.meta, c.scope, nil, at))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateUpdate(t *testing.T) {
	old := metav1.ObjectMeta{
		Name: "a", Namespace: "n", UID: "u", ResourceVersion: "1", Generation: 2, CreationTimestamp: metav1.Unix(1, 0),
	}
	deleted := old
	deleted.DeletionTimestamp, deleted.Finalizers = new(metav1.Unix(2, 0)), []string{"example.com/x"}
	for name, c := range map[string]struct {
		old    metav1.ObjectMeta
		change func(*metav1.ObjectMeta)
		want   []string
	}{
		"nothing":             {old, func(*metav1.ObjectMeta) {}, nil},
		"labels":              {old, func(m *metav1.ObjectMeta) { m.Labels = map[string]string{"a": "b"} }, nil},
		"no resource version": {old, func(m *metav1.ObjectMeta) { m.ResourceVersion = "" }, []string{"FieldValueInvalid metadata.resourceVersion"}},
		"name":                {old, func(m *metav1.ObjectMeta) { m.Name = "b" }, []string{"FieldValueInvalid metadata.name"}},
		"namespace":           {old, func(m *metav1.ObjectMeta) { m.Namespace = "b" }, []string{"FieldValueInvalid metadata.namespace"}},
		"uid":                 {old, func(m *metav1.ObjectMeta) { m.UID = types.UID("v") }, []string{"FieldValueInvalid metadata.uid"}},
		"earlier generation":  {old, func(m *metav1.ObjectMeta) { m.Generation = 1 }, []string{"FieldValueInvalid metadata.generation"}},
		"deletion": {
			old, func(m *metav1.ObjectMeta) { m.DeletionTimestamp = new(metav1.Unix(2, 0)) },
			[]string{"FieldValueInvalid metadata.deletionTimestamp"},
		},
		"finalizer":          {old, func(m *metav1.ObjectMeta) { m.Finalizers = []string{"example.com/x"} }, nil},
		"finalizer removed":  {deleted, func(m *metav1.ObjectMeta) { m.Finalizers = nil }, nil},
		"finalizer too late": {deleted, func(m *metav1.ObjectMeta) { m.Finalizers = append(m.Finalizers, "example.com/y") }, []string{"FieldValueForbidden metadata.finalizers"}},
	} {
		t.Run(name, func(t *testing.T) {
			meta := *c.old.DeepCopy()
			c.change(&meta)
			if diff := cmp.Diff(c.want, places(ValidateUpdate(&meta, &c.old, at))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPathSegment(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "A:b": true, "..a": true, ".": false, "..": false, "a/b": false, "a%b": false,
	} {
		if msgs := PathSegment(name, false); (len(msgs) == 0) != want {
			t.Errorf("PathSegment(%q) = %q", name, msgs)
		}
	}
	if msgs := PathSegment("..", true); len(msgs) > 0 {
		t.Errorf(`PathSegment("..", prefix) = %q`, msgs)
	}
}

func TestSelectorKeepsOldMistakes(t *testing.T) {
	wrong := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "k", Operator: metav1.LabelSelectorOpIn, Values: []string{"-"}},
	}}
	if errs := ValidateLabelSelector(wrong, ToleranceFor(nil), at); len(errs) != 1 {
		t.Errorf("new selector: %v", errs)
	}
	if errs := ValidateLabelSelector(wrong, ToleranceFor(wrong), at); len(errs) != 0 {
		t.Errorf("stored selector: %v", errs)
	}
}

func TestConvertAge(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for want, when := range map[string]metav1.Time{
		"<unknown>": {}, "5s": metav1.NewTime(now.Add(-5 * time.Second)), "3m20s": metav1.NewTime(now.Add(-200 * time.Second)),
		"2d1h": metav1.NewTime(now.Add(-49 * time.Hour)), "0s": metav1.NewTime(now),
	} {
		if got := ConvertAge(when, now); got != want {
			t.Errorf("ConvertAge(%v) = %v, want %v", when, got, want)
		}
	}
}
