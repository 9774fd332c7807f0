// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pvbinder

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/volumes"
)

// volume sets the phase of a volume by what has become of its claim.
//
//	no claimRef, or one without UID  Available
//	the claim names this volume      Bound
//	the claim names no volume        left to the claim, which is about to
//	the claim names another volume   taken back: Available; or Released when it was made for this claim
//	the claim is gone                Released, then as the reclaim policy says
func (c *controller) volume(ctx context.Context, pv *corev1.PersistentVolume) error {
	if pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID == "" {
		return c.phase(ctx, pv, corev1.VolumeAvailable, "")
	}
	claim, err := c.claimant(ctx, pv)
	if err != nil {
		return err
	}
	switch {
	case claim == nil:
		return c.release(ctx, pv)
	case claim.Spec.VolumeName == pv.Name:
		return c.phase(ctx, pv, corev1.VolumeBound, "")
	case claim.Spec.VolumeName == "":
		if !volumes.SameMode(pv, claim) {
			c.Events.Event(pv, corev1.EventTypeWarning, "VolumeMismatch",
				"Cannot bind PersistentVolume to requested PersistentVolumeClaim %q due to incompatible volumeMode.", claim.Name)
			c.Events.Event(claim, corev1.EventTypeWarning, "VolumeMismatch",
				"Cannot bind PersistentVolume %q to requested PersistentVolumeClaim due to incompatible volumeMode.", pv.Name)
			return nil
		}
		c.loop.Enqueue(reconcile.KeyOf(claim))
		return nil
	case metav1.HasAnnotation(pv.ObjectMeta, volumes.ProvisionedBy) && pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		return c.release(ctx, pv)
	}
	return c.unbind(ctx, pv)
}

// claimant returns the claim that a volume is bound to, or nil if it is gone. Releasing can't be undone, so a claim that
// seems to be gone is asked for once more.
func (c *controller) claimant(ctx context.Context, pv *corev1.PersistentVolume) (*corev1.PersistentVolumeClaim, error) {
	ref := pv.Spec.ClaimRef
	claim, ok := c.claims.Get(ref.Namespace, ref.Name)
	if ok && claim.UID == ref.UID {
		return claim, nil
	}
	if !ok && released(pv) {
		return nil, nil
	}
	claim, err := c.claimAPI.Get(ctx, ref.Namespace, ref.Name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("claim of volume %s: %w", pv.Name, err)
	case claim.UID != ref.UID:
		return nil, nil
	}
	return claim, nil
}

func released(pv *corev1.PersistentVolume) bool {
	return pv.Status.Phase == corev1.VolumeReleased || pv.Status.Phase == corev1.VolumeFailed
}

// release lets go of a volume and leaves it to whoever made it, as its policy says.
func (c *controller) release(ctx context.Context, pv *corev1.PersistentVolume) error {
	if !released(pv) {
		// What comes next is done when the change comes by.
		return c.phase(ctx, pv, corev1.VolumeReleased, "")
	}
	if pv.Annotations[volumes.MigratedTo] != "" {
		return nil
	}
	switch pv.Spec.PersistentVolumeReclaimPolicy {
	case corev1.PersistentVolumeReclaimRetain:
		return nil
	case corev1.PersistentVolumeReclaimDelete:
		provisioner := pv.Annotations[volumes.ProvisionedBy]
		if provisioner != "" && !inTree(provisioner) {
			return nil
		}
		return c.fail(ctx, pv, "VolumeFailedDelete",
			fmt.Sprintf("error getting deleter volume plugin for volume %q: no deletable volume plugin matched", pv.Name))
	case corev1.PersistentVolumeReclaimRecycle:
		return c.fail(ctx, pv, "VolumeFailedRecycle", "No recycler plugin found for the volume!")
	}
	return c.fail(ctx, pv, "VolumeUnknownReclaimPolicy", "Volume has unrecognized PersistentVolumeReclaimPolicy")
}

func (c *controller) fail(ctx context.Context, pv *corev1.PersistentVolume, reason, message string) error {
	if pv.Status.Phase == corev1.VolumeFailed {
		return nil
	}
	if err := c.phase(ctx, pv, corev1.VolumeFailed, message); err != nil {
		return err
	}
	c.Events.Event(pv, corev1.EventTypeWarning, reason, "%s", message)
	return nil
}

// unbind takes a reference back that did not come to a binding: all of it if this loop made it, else the UID only.
func (c *controller) unbind(ctx context.Context, pv *corev1.PersistentVolume) error {
	next := pv.DeepCopy()
	if metav1.HasAnnotation(pv.ObjectMeta, volumes.BoundByController) {
		next.Spec.ClaimRef = nil
		delete(next.Annotations, volumes.BoundByController)
	} else {
		next.Spec.ClaimRef.UID = ""
	}
	stored, err := c.pvAPI.Update(ctx, next)
	if err != nil {
		return fmt.Errorf("unbind volume %s: %w", pv.Name, err)
	}
	return c.phase(ctx, stored, corev1.VolumeAvailable, "")
}
