// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation"
	helper "k8s.io/component-helpers/resource"
)

var (
	podsResource  = schema.GroupResource{Resource: "pods"}
	podCount      = CountName(podsResource)
	podFixedNames = []corev1.ResourceName{
		podCount, corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage,
	}
	// constrained are the names that every container must set where a quota limits them.
	constrained = []corev1.ResourceName{
		corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
	}
)

func podEvaluator() *Evaluator {
	return &Evaluator{
		gr: podsResource, names: podFixedNames, also: podAlso,
		usage: func(obj runtime.Object, now time.Time) corev1.ResourceList {
			pod, ok := obj.(*corev1.Pod)
			if !ok {
				return corev1.ResourceList{}
			}
			return PodUsage(pod, now)
		},
		scope: podScope, constraints: podConstraints,
	}
}

// podAlso: huge pages, and extended resources as requests.<name>.
func podAlso(name corev1.ResourceName) bool {
	s := string(name)
	if strings.HasPrefix(s, corev1.ResourceHugePagesPrefix) || strings.HasPrefix(s, corev1.ResourceRequestsHugePagesPrefix) {
		return true
	}
	rest, ok := strings.CutPrefix(s, corev1.DefaultResourceRequestsPrefix)
	return ok && extended(corev1.ResourceName(rest))
}

// extended tells resources that Kubernetes does not define: they have a domain, and not kubernetes.io's.
func extended(name corev1.ResourceName) bool {
	s := string(name)
	domain, _, ok := strings.Cut(s, "/")
	if !ok || domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") && !strings.HasPrefix(s, "deviceclass.resource.kubernetes.io/") || strings.HasPrefix(s, corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+s)) == 0
}

// PodUsage is what a pod counts for. A pod that has ended, or should have ended by now, counts as an object only.
func PodUsage(pod *corev1.Pod, now time.Time) corev1.ResourceList {
	out := corev1.ResourceList{podCount: one()}
	if !PodActive(pod, now) {
		return out
	}
	opts := helper.PodResourcesOptions{UseStatusResources: true}
	maps.Copy(out, computeUsage(helper.PodRequests(pod, opts), helper.PodLimits(pod, opts)))
	return out
}

// PodActive reports whether the pod still counts: it has not ended, and its grace period after deletion is not over (a pod
// on a node that is gone must not block its successor).
func PodActive(pod *corev1.Pod, now time.Time) bool {
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return false
	}
	if pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil {
		return !now.After(pod.DeletionTimestamp.Add(time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second))
	}
	return true
}

func computeUsage(requests, limits corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{corev1.ResourcePods: one()}
	for n, q := range requests {
		switch {
		case n == corev1.ResourceCPU || n == corev1.ResourceMemory || n == corev1.ResourceEphemeralStorage || strings.HasPrefix(string(n), corev1.ResourceHugePagesPrefix):
			out[n] = q
			out[corev1.DefaultResourceRequestsPrefix+n] = q
		case extended(n):
			out[corev1.DefaultResourceRequestsPrefix+n] = q
		}
	}
	for n, q := range limits {
		if n == corev1.ResourceCPU || n == corev1.ResourceMemory || n == corev1.ResourceEphemeralStorage {
			out["limits."+n] = q
		}
	}
	return out
}

func podConstraints(required []corev1.ResourceName, obj runtime.Object) error {
	pod, ok := obj.(*corev1.Pod)
	if !ok || helper.IsPodLevelResourcesSet(pod) {
		return nil
	}
	missing := map[string][]string{}
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			have := computeUsage(list[i].Resources.Requests, list[i].Resources.Limits)
			for _, n := range required {
				if _, set := have[n]; !set && slices.Contains(constrained, n) {
					missing[string(n)] = append(missing[string(n)], list[i].Name)
				}
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	var parts []string
	for n, containers := range missing {
		sort.Strings(containers)
		parts = append(parts, n+" for: "+strings.Join(slices.Compact(containers), ","))
	}
	sort.Strings(parts)
	return fmt.Errorf("must specify %s", strings.Join(parts, "; "))
}

// Terminating tells pods with a deadline, for the scopes of that name.
func Terminating(pod *corev1.Pod) bool {
	return pod.Spec.ActiveDeadlineSeconds != nil && *pod.Spec.ActiveDeadlineSeconds >= 0
}

func podScope(sel corev1.ScopedResourceSelectorRequirement, obj runtime.Object) (bool, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return false, fmt.Errorf("expect *v1.Pod, got %T", obj)
	}
	switch sel.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return Terminating(pod), nil
	case corev1.ResourceQuotaScopeNotTerminating:
		return !Terminating(pod), nil
	case corev1.ResourceQuotaScopeBestEffort:
		return bestEffort(pod), nil
	case corev1.ResourceQuotaScopeNotBestEffort:
		return !bestEffort(pod), nil
	case corev1.ResourceQuotaScopePriorityClass:
		if sel.Operator == corev1.ScopeSelectorOpExists {
			return pod.Spec.PriorityClassName != "", nil
		}
		return selects(sel, pod.Spec.PriorityClassName)
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return crossNamespace(pod), nil
	default:
		return false, nil
	}
}

// selects applies In, NotIn and DoesNotExist to a value that may be absent.
func selects(sel corev1.ScopedResourceSelectorRequirement, value string) (bool, error) {
	var op selection.Operator
	switch sel.Operator {
	case corev1.ScopeSelectorOpIn:
		op = selection.In
	case corev1.ScopeSelectorOpNotIn:
		op = selection.NotIn
	case corev1.ScopeSelectorOpExists:
		op = selection.Exists
	case corev1.ScopeSelectorOpDoesNotExist:
		op = selection.DoesNotExist
	default:
		return false, fmt.Errorf("failed to parse and convert selector: %q is not a valid scope selector operator", sel.Operator)
	}
	r, err := labels.NewRequirement(string(sel.ScopeName), op, sel.Values)
	if err != nil {
		return false, fmt.Errorf("failed to parse and convert selector: %w", err)
	}
	set := labels.Set{}
	if value != "" {
		set[string(sel.ScopeName)] = value
	}
	return r.Matches(set), nil
}

// bestEffort: no container of the pod, nor the pod, asks for or limits CPU or memory.
func bestEffort(pod *corev1.Pod) bool {
	sets := func(list corev1.ResourceList) bool {
		for _, n := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			if q, ok := list[n]; ok && q.Sign() > 0 {
				return true
			}
		}
		return false
	}
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass == corev1.PodQOSBestEffort
	}
	if r := pod.Spec.Resources; r != nil && (len(r.Requests) > 0 || len(r.Limits) > 0) {
		return !sets(r.Requests) && !sets(r.Limits)
	}
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if sets(list[i].Resources.Requests) || sets(list[i].Resources.Limits) {
				return false
			}
		}
	}
	return true
}

func crossNamespace(pod *corev1.Pod) bool {
	if pod.Spec.Affinity == nil {
		return false
	}
	crosses := func(namespaces []string, sel *metav1.LabelSelector) bool { return len(namespaces) > 0 || sel != nil }
	term := func(t corev1.PodAffinityTerm) bool { return crosses(t.Namespaces, t.NamespaceSelector) }
	weighted := func(t corev1.WeightedPodAffinityTerm) bool { return term(t.PodAffinityTerm) }
	if a := pod.Spec.Affinity.PodAffinity; a != nil &&
		(slices.ContainsFunc(a.RequiredDuringSchedulingIgnoredDuringExecution, term) || slices.ContainsFunc(a.PreferredDuringSchedulingIgnoredDuringExecution, weighted)) {
		return true
	}
	a := pod.Spec.Affinity.PodAntiAffinity
	return a != nil && (slices.ContainsFunc(a.RequiredDuringSchedulingIgnoredDuringExecution, term) || slices.ContainsFunc(a.PreferredDuringSchedulingIgnoredDuringExecution, weighted))
}
