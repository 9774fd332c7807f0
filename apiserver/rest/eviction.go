// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
)

var budgetsGVR = schema.GroupVersionResource{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}

// maxDisrupted bounds the evictions that a budget's controller has not confirmed yet.
const maxDisrupted = 2000

const wouldViolate = "Cannot evict pod as it would violate the pod's disruption budget."

// evict deletes a pod if its disruption budget allows it.
func (e *Engine) evict(ctx context.Context, c *Call) (*Result, error) {
	eviction, ok := c.Object.(*policyv1.Eviction)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a Eviction object: %T", c.Object))
	}
	if err := checkNamespace(eviction, c.Namespace); err != nil {
		return nil, err
	}
	if c.Name != eviction.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	if o := eviction.DeleteOptions; o != nil && ptr.Deref(o.IgnoreStoreReadErrorWithClusterBreakingPotential, false) {
		return nil, apierrors.NewInvalid(policyv1.SchemeGroupVersion.WithKind("Eviction").GroupKind(), c.Name, field.ErrorList{field.Invalid(
			field.NewPath("deleteOptions", "ignoreStoreReadErrorWithClusterBreakingPotential"), true, "can not be set for pod eviction, try after removing the option",
		)})
	}
	opts, err := evictionOptions(c, eviction)
	if err != nil {
		return nil, err
	}
	if tracked, ok := e.trackVirtual(ctx, c, eviction).(*policyv1.Eviction); ok {
		eviction = tracked
	}
	if err := e.admit(ctx, e.attributes(ctx, c, admission.Create, eviction, nil)); err != nil {
		return nil, err
	}
	entry, err := e.read(ctx, e.Lookup(podsGVR).bound, e.Lookup(podsGVR).key(c.Namespace, c.Name), "")
	if err != nil {
		return nil, apierrors.NewNotFound(podsGVR.GroupResource(), c.Name)
	}
	obj, err := entry.Object()
	if err != nil {
		return nil, err
	}
	pod := obj.(*corev1.Pod)
	if err := validateDelete(opts); err != nil {
		return nil, err
	}
	pinned := opts.Preconditions != nil && opts.Preconditions.ResourceVersion != nil
	budget := ""
	if !disrupted(pod) {
		guarded := false
		if budget, guarded, err = e.spend(ctx, pod, len(opts.DryRun) > 0); err != nil {
			return nil, err
		}
		if guarded && !pinned {
			// The pod must not have become ready since its budget was looked at.
			opts.Preconditions = withVersion(opts.Preconditions, pod.ResourceVersion)
		}
	}
	err = e.evictNow(ctx, c, opts)
	if apierrors.IsConflict(err) && !pinned && budget != "" {
		err = busyBudget(budget)
	}
	if err != nil {
		return nil, err
	}
	return &Result{Code: http.StatusCreated, Object: &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}}, nil
}

func withVersion(p *metav1.Preconditions, version string) *metav1.Preconditions {
	out := &metav1.Preconditions{}
	if p != nil {
		out = p.DeepCopy()
	}
	out.ResourceVersion = &version
	return out
}

// evictionOptions are the delete options of an eviction; its dry run may be named in either place, but not differently.
func evictionOptions(c *Call, eviction *policyv1.Eviction) (*metav1.DeleteOptions, error) {
	opts := &metav1.DeleteOptions{}
	if eviction.DeleteOptions != nil {
		opts = eviction.DeleteOptions.DeepCopy()
	}
	var asked []string
	if c.Create != nil {
		asked = c.Create.DryRun
	}
	switch {
	case len(opts.DryRun) == 0:
		opts.DryRun = asked
	case len(asked) == 0:
	case fmt.Sprint(asked) != fmt.Sprint(opts.DryRun):
		return nil, fmt.Errorf("Non-matching dry-run options in request and content: %v and %v", asked, opts.DryRun) //nolint:staticcheck // Upstream's words.
	}
	return opts, nil
}

// disrupted tells pods that no budget guards any more.
func disrupted(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodPending || pod.DeletionTimestamp != nil
}

// evictNow marks the pod as disrupted and deletes it.
func (e *Engine) evictNow(ctx context.Context, c *Call, opts *metav1.DeleteOptions) error {
	if len(opts.DryRun) == 0 {
		pod, err := e.changePod(ctx, c, func(pod *corev1.Pod) error {
			if err := evictionPreconditions(opts.Preconditions, pod); err != nil {
				return err
			}
			setPodCondition(&pod.Status, corev1.PodCondition{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting",
			})
			return nil
		})
		if err != nil {
			return err
		}
		if opts.Preconditions != nil && opts.Preconditions.ResourceVersion != nil {
			opts.Preconditions = withVersion(opts.Preconditions, pod.ResourceVersion)
		}
	}
	del := &Call{Verb: client.Delete, Target: e.Lookup(podsGVR), Namespace: c.Namespace, Name: c.Name, Delete: opts}
	// Admission judged the eviction; the deletion is its consequence.
	d := &deletion{engine: e, call: del, admitted: true}
	_, err := e.transact(ctx, del, del.Target.key(c.Namespace, c.Name), d.step)
	return err
}

func evictionPreconditions(p *metav1.Preconditions, pod *corev1.Pod) error {
	if p == nil {
		return nil
	}
	gr := schema.GroupResource{Resource: "Pod"}
	if p.UID != nil && *p.UID != "" && *p.UID != pod.UID {
		return apierrors.NewConflict(gr, pod.Name, fmt.Errorf(
			"the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *p.UID, pod.UID,
		))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != "" && *p.ResourceVersion != pod.ResourceVersion {
		return apierrors.NewConflict(gr, pod.Name, fmt.Errorf(
			"the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified",
			*p.ResourceVersion, pod.ResourceVersion,
		))
	}
	return nil
}

// spend takes one disruption from the pod's budget. guarded says that the pod may go although it took none, because it is not healthy.
func (e *Engine) spend(ctx context.Context, pod *corev1.Pod, dry bool) (budget string, guarded bool, err error) {
	found, err := e.budgets(ctx, pod)
	if err != nil {
		return "", false, err
	}
	switch len(found) {
	case 0:
		return "", false, nil
	case 1:
	default:
		return "", false, &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusInternalServerError,
			Message: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
		}}
	}
	pdb := found[0]
	if !podReady(pod) {
		policy := pdb.Spec.UnhealthyPodEvictionPolicy
		if policy != nil && *policy == policyv1.AlwaysAllow || pdb.Status.CurrentHealthy >= pdb.Status.DesiredHealthy && pdb.Status.DesiredHealthy > 0 {
			return pdb.Name, true, nil
		}
	}
	c := &Call{Verb: client.Update, Target: e.Lookup(budgetsGVR), Namespace: pod.Namespace, Name: pdb.Name, Subresource: "status"}
	if dry {
		c.Update = &metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}}
	}
	_, err = e.transact(ctx, c, c.Target.key(c.Namespace, c.Name), func(_ context.Context, old kinds.Object) (*outcome, error) {
		if old == nil {
			return nil, apierrors.NewNotFound(budgetsGVR.GroupResource(), pdb.Name)
		}
		next := old.(*policyv1.PodDisruptionBudget).DeepCopy()
		if err := decrement(next, pod.Name); err != nil {
			return nil, err
		}
		return &outcome{obj: next}, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = apierrors.NewTimeoutError(fmt.Sprintf("couldn't update PodDisruptionBudget %q due to conflicts", pdb.Name), 10)
	}
	return pdb.Name, false, err
}

// budgets are those that select the pod.
func (e *Engine) budgets(ctx context.Context, pod *corev1.Pod) ([]*policyv1.PodDisruptionBudget, error) {
	if len(pod.Labels) == 0 {
		return nil, nil
	}
	if _, err := e.Lookup(budgetsGVR).cache.Fresh(ctx); err != nil {
		return nil, err
	}
	all, err := e.Reader().List(ctx, budgetsGVR.GroupResource(), pod.Namespace)
	if err != nil {
		return nil, err
	}
	var out []*policyv1.PodDisruptionBudget
	for _, obj := range all {
		pdb := obj.(*policyv1.PodDisruptionBudget)
		sel, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
		if err != nil {
			continue // A budget whose selector means nothing guards nothing.
		}
		if sel.Matches(labels.Set(pod.Labels)) {
			out = append(out, pdb)
		}
	}
	return out, nil
}

func podReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// decrement takes one allowed disruption for a pod, or says why it can't.
func decrement(pdb *policyv1.PodDisruptionBudget, pod string) error {
	gr := schema.GroupResource{Group: "policy", Resource: "poddisruptionbudget"}
	switch {
	case pdb.Status.ObservedGeneration < pdb.Generation:
		return busyBudget(pdb.Name)
	case pdb.Status.DisruptionsAllowed < 0:
		return apierrors.NewForbidden(gr, pdb.Name, errors.New("pdb disruptions allowed is negative"))
	case len(pdb.Status.DisruptedPods) > maxDisrupted:
		return apierrors.NewForbidden(gr, pdb.Name, errors.New("DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
	case pdb.Status.DisruptionsAllowed == 0:
		return exhausted(pdb)
	}
	pdb.Status.DisruptionsAllowed--
	if pdb.Status.DisruptionsAllowed == 0 {
		meta.SetStatusCondition(&pdb.Status.Conditions, metav1.Condition{
			Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason,
			ObservedGeneration: pdb.Status.ObservedGeneration,
		})
	}
	if pdb.Status.DisruptedPods == nil {
		pdb.Status.DisruptedPods = map[string]metav1.Time{}
	}
	pdb.Status.DisruptedPods[pod] = metav1.Time{Time: time.Now()}
	return nil
}

func busyBudget(name string) error {
	err := apierrors.NewTooManyRequests(wouldViolate, 10)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: policyv1.DisruptionBudgetCause, Message: fmt.Sprintf("The disruption budget %s is still being processed by the server.", name),
	})
	return err
}

func exhausted(pdb *policyv1.PodDisruptionBudget) error {
	err := apierrors.NewTooManyRequests(wouldViolate, 0)
	condition := meta.FindStatusCondition(pdb.Status.Conditions, policyv1.DisruptionAllowedCondition)
	refused := condition != nil && condition.Status == metav1.ConditionFalse && condition.Message != ""
	text := fmt.Sprintf("The disruption budget %s does not allow evicting pods currently", pdb.Name)
	switch {
	case refused && condition.Reason == policyv1.SyncFailedReason:
		text += " because it failed sync: " + condition.Message
	case pdb.Status.CurrentHealthy <= pdb.Status.DesiredHealthy:
		text = fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", pdb.Name, pdb.Status.DesiredHealthy, pdb.Status.CurrentHealthy)
	case refused:
		text += fmt.Sprintf(" (%s): %s", condition.Reason, condition.Message)
	}
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: text})
	return err
}
