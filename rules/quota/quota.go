// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package quota computes what objects count for resource quotas, and which quotas they count against. The admission plugin
// and the quota controller share it, so that both always agree.
package quota

import (
	"slices"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Evaluator knows one resource. Its methods read nothing but their arguments.
type Evaluator struct {
	gr schema.GroupResource
	// names are the fixed quota names that the resource counts for; prefixed and suffixed ones are matched by also.
	names []corev1.ResourceName
	also  func(corev1.ResourceName) bool
	// usage of one object; nil counts objects only.
	usage func(obj runtime.Object, now time.Time) corev1.ResourceList
	// scope tells whether an object is within a scope; nil means that no scope ever holds.
	scope func(sel corev1.ScopedResourceSelectorRequirement, obj runtime.Object) (bool, error)
	// constraints refuses objects that leave out what a quota counts.
	constraints func(required []corev1.ResourceName, obj runtime.Object) error
}

// legacyCounts are objects that may also be counted without "count/".
var legacyCounts = map[string]bool{"configmaps": true, "resourcequotas": true, "replicationcontrollers": true, "secrets": true}

// For returns the evaluator of a resource; every resource has one, for at least its objects can be counted.
func For(gr schema.GroupResource) *Evaluator {
	switch gr {
	case schema.GroupResource{Resource: "pods"}:
		return podEvaluator()
	case schema.GroupResource{Resource: "services"}:
		return serviceEvaluator()
	case schema.GroupResource{Resource: "persistentvolumeclaims"}:
		return claimEvaluator()
	case schema.GroupResource{Group: resourcev1.GroupName, Resource: "resourceclaims"}:
		return resourceClaimEvaluator()
	}
	e := &Evaluator{gr: gr, names: []corev1.ResourceName{CountName(gr)}}
	if gr.Group == "" && legacyCounts[gr.Resource] {
		e.names = append(e.names, corev1.ResourceName(gr.Resource))
	}
	return e
}

// CountName is the quota name that counts a resource's objects: count/deployments.apps.
func CountName(gr schema.GroupResource) corev1.ResourceName {
	return corev1.ResourceName("count/" + gr.String())
}

// GroupResourceOf returns the resource whose objects a quota name is about, or false for names that need knowledge of
// several (none today) or of none.
func GroupResourceOf(name corev1.ResourceName) (schema.GroupResource, bool) {
	s := string(name)
	if counted, ok := strings.CutPrefix(s, "count/"); ok {
		return schema.ParseGroupResource(counted), true
	}
	for _, e := range []*Evaluator{podEvaluator(), serviceEvaluator(), claimEvaluator(), resourceClaimEvaluator()} {
		if e.counts(name) {
			return e.gr, true
		}
	}
	if legacyCounts[s] {
		return schema.GroupResource{Resource: s}, true
	}
	return schema.GroupResource{}, false
}

func (e *Evaluator) counts(name corev1.ResourceName) bool {
	return slices.Contains(e.names, name) || e.also != nil && e.also(name)
}

// Resource is what the evaluator knows.
func (e *Evaluator) Resource() schema.GroupResource { return e.gr }

// Names returns those of the quota names that this resource counts for.
func (e *Evaluator) Names(in []corev1.ResourceName) []corev1.ResourceName {
	var out []corev1.ResourceName
	for _, n := range in {
		if e.counts(n) {
			out = append(out, n)
		}
	}
	return out
}

// Usage is what one object counts for at a time.
func (e *Evaluator) Usage(obj runtime.Object, now time.Time) corev1.ResourceList {
	if e.usage != nil {
		return e.usage(obj, now)
	}
	out := corev1.ResourceList{}
	for _, n := range e.names {
		out[n] = one()
	}
	return out
}

// Matches reports whether an object counts against a quota: the quota limits something that the resource counts for, and
// the object is within all of the quota's scopes.
func (e *Evaluator) Matches(q *corev1.ResourceQuota, obj runtime.Object) (bool, error) {
	if len(e.Names(namesOf(q.Status.Hard))) == 0 && len(e.Names(namesOf(q.Spec.Hard))) == 0 {
		return false, nil
	}
	for _, sel := range Scopes(q) {
		if e.scope == nil {
			return false, nil
		}
		ok, err := e.scope(sel, obj)
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// Constraints refuses an object that does not say how much it uses of what a quota limits.
func (e *Evaluator) Constraints(required []corev1.ResourceName, obj runtime.Object) error {
	if e.constraints == nil {
		return nil
	}
	return e.constraints(required, obj)
}

// Scopes returns both forms of a quota's scopes as selectors.
func Scopes(q *corev1.ResourceQuota) []corev1.ScopedResourceSelectorRequirement {
	var out []corev1.ScopedResourceSelectorRequirement
	for _, s := range q.Spec.Scopes {
		out = append(out, corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists})
	}
	if q.Spec.ScopeSelector != nil {
		out = append(out, q.Spec.ScopeSelector.MatchExpressions...)
	}
	return out
}

func one() resource.Quantity { return *resource.NewQuantity(1, resource.DecimalSI) }

func namesOf(list corev1.ResourceList) []corev1.ResourceName {
	out := make([]corev1.ResourceName, 0, len(list))
	for n := range list {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// Names of a list, sorted.
func Names(list corev1.ResourceList) []corev1.ResourceName { return namesOf(list) }

// Mask keeps of a list what is named.
func Mask(list corev1.ResourceList, names []corev1.ResourceName) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, n := range names {
		if q, ok := list[n]; ok {
			out[n] = q.DeepCopy()
		}
	}
	return out
}

// Add returns a + b.
func Add(a, b corev1.ResourceList) corev1.ResourceList {
	out := a.DeepCopy()
	if out == nil {
		out = corev1.ResourceList{}
	}
	for n, q := range b {
		sum := out[n].DeepCopy()
		if sum.IsZero() && sum.Format == "" {
			sum = q.DeepCopy()
		} else {
			sum.Add(q)
		}
		out[n] = sum
	}
	return out
}

// Grown returns now - before where that is positive.
func Grown(now, before corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for n, q := range now {
		d := q.DeepCopy()
		if b, ok := before[n]; ok {
			d.Sub(b)
		}
		if d.Sign() > 0 {
			out[n] = d
		}
	}
	return out
}

// WithoutZeros drops entries that are zero.
func WithoutZeros(list corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for n, q := range list {
		if !q.IsZero() {
			out[n] = q
		}
	}
	return out
}

// Negative returns the names of negative entries.
func Negative(list corev1.ResourceList) []corev1.ResourceName {
	var out []corev1.ResourceName
	for n, q := range list {
		if q.Sign() < 0 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// Exceeding returns the names under which use is above hard; names that hard does not limit never exceed.
func Exceeding(use, hard corev1.ResourceList) []corev1.ResourceName {
	var out []corev1.ResourceName
	for n, q := range use {
		if h, ok := hard[n]; ok && q.Cmp(h) > 0 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// Text renders a list as "cpu=1,pods=2", for messages.
func Text(list corev1.ResourceList) string {
	parts := make([]string, 0, len(list))
	for n, q := range list {
		parts = append(parts, string(n)+"="+q.String())
	}
	sort.Strings(parts)
	return strings.Join(parts, ",")
}

// NamesText renders names as "cpu,pods".
func NamesText(names []corev1.ResourceName) string {
	parts := make([]string, 0, len(names))
	for _, n := range names {
		parts = append(parts, string(n))
	}
	sort.Strings(parts)
	return strings.Join(parts, ",")
}
