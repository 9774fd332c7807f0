// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package statefulset

import (
	"context"
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/client"
)

// ensureClaims makes the claims of a pod that are missing.
func (r *round) ensureClaims(ctx context.Context, pod *corev1.Pod) error {
	var errs []error
	for _, claim := range claimsOf(r.set, ordinalOf(pod)) {
		known, ok := r.claims.Get(claim.Namespace, claim.Name)
		if ok {
			if known.DeletionTimestamp != nil {
				errs = append(errs, fmt.Errorf("pvc %s is being deleted", claim.Name))
			}
			continue
		}
		if refs, _, change := owners(claim, r.set, pod); change {
			claim.OwnerReferences = refs
		}
		_, err := r.claimAPI.Create(ctx, claim)
		switch {
		case err == nil:
			r.Events.Event(r.set, corev1.EventTypeNormal, "SuccessfulCreate",
				"Create Claim %s Pod %s in StatefulSet %s success", claim.Name, pod.Name, r.set.Name)
		case apierrors.IsAlreadyExists(err): // the view lags
		default:
			r.Events.Event(r.set, corev1.EventTypeWarning, "FailedCreate",
				"Create Claim %s for Pod %s in StatefulSet %s failed error: %s", claim.Name, pod.Name, r.set.Name, err)
			errs = append(errs, fmt.Errorf("create claim %s: %w", claim.Name, err))
		}
	}
	return errors.Join(errs...)
}

// ownClaims brings the owners of a pod's claims in line with the retention policy.
func (r *round) ownClaims(ctx context.Context, pod *corev1.Pod) error {
	for i := range r.set.Spec.VolumeClaimTemplates {
		claim, err := r.claim(ctx, pod, claimName(r.set, &r.set.Spec.VolumeClaimTemplates[i], ordinalOf(pod)))
		if err != nil {
			return err
		}
		if claim == nil {
			continue
		}
		refs, conflict, change := owners(claim, r.set, pod)
		if conflict {
			r.Events.Event(r.set, corev1.EventTypeWarning, "ConflictingController",
				"PersistentVolumeClaim %s has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim", claim.Name)
		}
		if !change {
			continue
		}
		next := claim.DeepCopy()
		next.OwnerReferences = refs
		if _, err := r.claimAPI.Update(ctx, next); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("owners of claim %s: %w", claim.Name, err)
		}
	}
	return nil
}

// claim returns a claim of a pod, nil when there is none. When the pod is about to go and its claim with it, no later look will find the two
// together: a claim that the view does not show is asked for.
func (r *round) claim(ctx context.Context, pod *corev1.Pod, name string) (*corev1.PersistentVolumeClaim, error) {
	known, ok := r.claims.Get(r.set.Namespace, name)
	if ok {
		return known, nil
	}
	if inRange(r.set, ordinalOf(pod)) || policyOf(r.set).WhenScaled == appsv1.RetainPersistentVolumeClaimRetentionPolicyType {
		return nil, nil
	}
	asked, err := r.claimAPI.Get(ctx, r.set.Namespace, name)
	return asked, client.IgnoreNotFound(err)
}

// staleClaim reports whether a claim of the pod to be made still belongs to an earlier pod of the name, with which it is
// about to go.
func (r *round) staleClaim(pod *corev1.Pod) bool {
	if policyOf(r.set).WhenScaled == appsv1.RetainPersistentVolumeClaimRetentionPolicyType {
		return false
	}
	for _, claim := range claimsOf(r.set, ordinalOf(pod)) {
		if known, ok := r.claims.Get(claim.Namespace, claim.Name); ok && isStale(known, pod, podKind) {
			return true
		}
	}
	return false
}

func policyOf(set *appsv1.StatefulSet) appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy {
	if set.Spec.PersistentVolumeClaimRetentionPolicy != nil {
		return *set.Spec.PersistentVolumeClaimRetentionPolicy
	}
	return appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
		WhenDeleted: appsv1.RetainPersistentVolumeClaimRetentionPolicyType, WhenScaled: appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
	}
}

func names(ref metav1.OwnerReference, obj metav1.Object, gvk schema.GroupVersionKind) bool {
	return ref.APIVersion == gvk.GroupVersion().String() && ref.Kind == gvk.Kind && ref.Name == obj.GetName()
}

// isStale reports whether an owner of obj's kind and name is another object than obj.
func isStale(claim *corev1.PersistentVolumeClaim, obj metav1.Object, gvk schema.GroupVersionKind) bool {
	return slices.ContainsFunc(claim.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return names(ref, obj, gvk) && ref.UID != obj.GetUID()
	})
}

// owners returns a claim's owners as the policy wants them. The set owns claims that go with the set, and a pod that is
// scaled away those that go with scaling. A claim with an owner of the same name but another identity is left alone:
// the garbage collector decides about it. So is one that another controller manages; ours are taken back from it.
func owners(claim *corev1.PersistentVolumeClaim, set *appsv1.StatefulSet, pod *corev1.Pod) (refs []metav1.OwnerReference, conflict, change bool) {
	const deletes = appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	if isStale(claim, set, kind) || isStale(claim, pod, podKind) {
		return nil, false, false
	}
	policy := policyOf(set)
	var hasSet, hasPod, weak bool
	for _, ref := range claim.OwnerReferences {
		isSet, isPod := names(ref, set, kind), names(ref, pod, podKind)
		controls := ref.Controller != nil && *ref.Controller
		hasSet, hasPod = hasSet || isSet, hasPod || isPod
		weak = weak || ((isSet || isPod) && !controls)
		conflict = conflict || (controls && !isSet && !isPod && (policy.WhenDeleted == deletes || policy.WhenScaled == deletes))
		if !isSet && !isPod {
			refs = append(refs, ref)
		}
	}
	if conflict {
		return refs, true, hasSet || hasPod
	}
	scaledAway := !inRange(set, ordinalOf(pod))
	wantPod := policy.WhenScaled == deletes && scaledAway
	wantSet := policy.WhenDeleted == deletes && !wantPod
	if hasSet == wantSet && hasPod == wantPod && !weak {
		return nil, false, false
	}
	switch {
	case wantPod:
		refs = append(refs, *metav1.NewControllerRef(pod, podKind))
	case wantSet:
		refs = append(refs, *metav1.NewControllerRef(set, kind))
	}
	return refs, false, true
}
