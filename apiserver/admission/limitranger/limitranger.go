// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package limitranger applies the limit ranges of a namespace: default requests and limits, and bounds per container, pod
// and volume claim.
package limitranger

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	helper "k8s.io/component-helpers/resource"

	"kogge.dev/kogge/apiserver/admission"
)

// annotation says on the pod what was set for it.
const annotation = "kubernetes.io/limit-ranger"

// Plugin is the admission plugin.
type Plugin struct{ Reader admission.Reader }

// handles: pods on create and on resize, volume claims on create and update.
func handles(a *admission.Attributes) bool {
	create, update := a.Operation == admission.Create, a.Operation == admission.Update
	switch {
	case a.Is("", "pods", "resize"):
		return update
	case a.Is("", "pods"):
		return create
	case a.Is("", "persistentvolumeclaims"):
		return create || update
	}
	return false
}

func (p *Plugin) ranges(ctx context.Context, a *admission.Attributes) ([]*corev1.LimitRange, error) {
	if !handles(a) {
		return nil, nil
	}
	if a.Old != nil {
		// What is on its way out may still be changed, whatever the limits say by now.
		if old, err := meta.Accessor(a.Old); err != nil || old.GetDeletionTimestamp() != nil {
			return nil, err
		}
	}
	list, err := admission.List[*corev1.LimitRange](ctx, p.Reader, schema.GroupResource{Resource: "limitranges"}, a.Namespace)
	if err != nil {
		return nil, admission.Forbiddenf(a, "unable to %s %v at this time because there was an error enforcing limit ranges", a.Operation, a.Resource)
	}
	slices.SortFunc(list, func(x, y *corev1.LimitRange) int { return strings.Compare(x.Name, y.Name) })
	return list, nil
}

// Admit implements admission.Mutator: it fills in defaults.
func (p *Plugin) Admit(ctx context.Context, a *admission.Attributes) error {
	list, err := p.ranges(ctx, a)
	if err != nil {
		return err
	}
	pod, ok := admission.Object[*corev1.Pod](a)
	if !ok {
		return nil
	}
	for _, r := range list {
		applyDefaults(r, pod)
	}
	return nil
}

// Validate implements admission.Validator: it holds the bounds.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	list, err := p.ranges(ctx, a)
	if err != nil {
		return err
	}
	for _, r := range list {
		var errs []error
		switch obj := a.Object.(type) {
		case *corev1.Pod:
			errs = checkPod(r, obj)
		case *corev1.PersistentVolumeClaim:
			errs = checkClaim(r, obj)
		}
		if len(errs) > 0 {
			return admission.Forbidden(a, utilerrors.NewAggregate(errs))
		}
	}
	return nil
}

func applyDefaults(r *corev1.LimitRange, pod *corev1.Pod) {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	for i := range r.Spec.Limits {
		l := &r.Spec.Limits[i]
		if l.Type != corev1.LimitTypeContainer {
			continue
		}
		maps.Copy(requests, l.DefaultRequest)
		maps.Copy(limits, l.Default)
	}
	var notes []string
	for i := range pod.Spec.Containers {
		notes = append(notes, fill(&pod.Spec.Containers[i], "container", requests, limits)...)
	}
	for i := range pod.Spec.InitContainers {
		notes = append(notes, fill(&pod.Spec.InitContainers[i], "init container", requests, limits)...)
	}
	if len(notes) == 0 {
		return
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[annotation] = "LimitRanger plugin set: " + strings.Join(notes, "; ")
}

func fill(c *corev1.Container, role string, requests, limits corev1.ResourceList) []string {
	var notes []string
	if set := fillList(&c.Resources.Requests, requests); len(set) > 0 {
		notes = append(notes, fmt.Sprintf("%s request for %s %s", strings.Join(set, ", "), role, c.Name))
	}
	if set := fillList(&c.Resources.Limits, limits); len(set) > 0 {
		notes = append(notes, fmt.Sprintf("%s limit for %s %s", strings.Join(set, ", "), role, c.Name))
	}
	return notes
}

func fillList(to *corev1.ResourceList, from corev1.ResourceList) []string {
	var set []string
	for n, q := range from {
		if _, ok := (*to)[n]; ok {
			continue
		}
		if *to == nil {
			*to = corev1.ResourceList{}
		}
		(*to)[n] = q.DeepCopy()
		set = append(set, string(n))
	}
	sort.Strings(set)
	return set
}

func checkPod(r *corev1.LimitRange, pod *corev1.Pod) []error {
	var errs []error
	for i := range r.Spec.Limits {
		l := &r.Spec.Limits[i]
		switch l.Type {
		case corev1.LimitTypeContainer:
			for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
				for j := range list {
					errs = append(errs, check(l, list[j].Resources.Requests, list[j].Resources.Limits)...)
				}
			}
		case corev1.LimitTypePod:
			opts := helper.PodResourcesOptions{ExcludeOverhead: true}
			errs = append(errs, check(l, helper.PodRequests(pod, opts), helper.PodLimits(pod, opts))...)
		case corev1.LimitTypePersistentVolumeClaim: // not a pod's
		}
	}
	return errs
}

func checkClaim(r *corev1.LimitRange, claim *corev1.PersistentVolumeClaim) []error {
	var errs []error
	for i := range r.Spec.Limits {
		l := &r.Spec.Limits[i]
		if l.Type != corev1.LimitTypePersistentVolumeClaim {
			continue
		}
		for _, n := range names(l.Min) {
			errs = add(errs, minimum(l.Type, n, l.Min[n], claim.Spec.Resources.Requests, nil))
		}
		for _, n := range names(l.Max) {
			req, ok := claim.Spec.Resources.Requests[n]
			switch limit := l.Max[n]; {
			case !ok:
				errs = append(errs, fmt.Errorf("maximum %s usage per %s is %s.  No request is specified", n, l.Type, limit.String()))
			case req.Cmp(limit) > 0:
				errs = append(errs, fmt.Errorf("maximum %s usage per %s is %s, but request is %s", n, l.Type, limit.String(), req.String()))
			}
		}
	}
	return errs
}

func check(l *corev1.LimitRangeItem, requests, limits corev1.ResourceList) []error {
	var errs []error
	for _, n := range names(l.Min) {
		errs = add(errs, minimum(l.Type, n, l.Min[n], requests, limits))
	}
	for _, n := range names(l.Max) {
		errs = add(errs, maximum(l.Type, n, l.Max[n], requests, limits))
	}
	for _, n := range names(l.MaxLimitRequestRatio) {
		errs = add(errs, ratio(l.Type, n, l.MaxLimitRequestRatio[n], requests, limits))
	}
	return errs
}

func names(list corev1.ResourceList) []corev1.ResourceName {
	out := make([]corev1.ResourceName, 0, len(list))
	for n := range list {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func add(errs []error, err error) []error {
	if err == nil {
		return errs
	}
	return append(errs, err)
}

func minimum(t corev1.LimitType, n corev1.ResourceName, bound resource.Quantity, requests, limits corev1.ResourceList) error {
	req, asked := requests[n]
	lim, limited := limits[n]
	switch {
	case !asked:
		return fmt.Errorf("minimum %s usage per %s is %s.  No request is specified", n, t, bound.String())
	case req.Cmp(bound) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but request is %s", n, t, bound.String(), req.String())
	case limited && lim.Cmp(bound) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but limit is %s", n, t, bound.String(), lim.String())
	}
	return nil
}

func maximum(t corev1.LimitType, n corev1.ResourceName, bound resource.Quantity, requests, limits corev1.ResourceList) error {
	req, asked := requests[n]
	lim, limited := limits[n]
	switch {
	case !limited:
		return fmt.Errorf("maximum %s usage per %s is %s.  No limit is specified", n, t, bound.String())
	case lim.Cmp(bound) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but limit is %s", n, t, bound.String(), lim.String())
	case asked && req.Cmp(bound) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", n, t, bound.String(), req.String())
	}
	return nil
}

func ratio(t corev1.LimitType, n corev1.ResourceName, bound resource.Quantity, requests, limits corev1.ResourceList) error {
	req, asked := requests[n]
	lim, limited := limits[n]
	switch {
	case !asked || req.IsZero():
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", n, t, bound.String())
	case !limited || lim.IsZero():
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", n, t, bound.String())
	}
	if got := lim.AsApproximateFloat64() / req.AsApproximateFloat64(); got > bound.AsApproximateFloat64() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but provided ratio is %f", n, t, bound.String(), got)
	}
	return nil
}
