// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pvbinder

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/volumes"
)

// sizeBeforeResize is what a volume's file system had before the volume grew; the node removes it when the file system
// has grown as well.
const sizeBeforeResize = "volume.alpha.kubernetes.io/pre-resize-capacity"

// bind completes a binding from whatever part of it is there. It does nothing for one that is complete.
func (c *controller) bind(ctx context.Context, pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	if next, changed := volumes.BindTo(pv, claim); changed {
		stored, err := c.pvAPI.Update(ctx, next)
		if err != nil {
			return fmt.Errorf("bind volume %s to claim %s: %w", pv.Name, reconcile.KeyOf(claim), err)
		}
		pv = stored
	}
	if err := c.phase(ctx, pv, corev1.VolumeBound, ""); err != nil {
		return err
	}
	if claim.Spec.VolumeName != pv.Name || !metav1.HasAnnotation(claim.ObjectMeta, volumes.BindCompleted) {
		next := claim.DeepCopy()
		if next.Spec.VolumeName != pv.Name {
			next.Spec.VolumeName = pv.Name
			metav1.SetMetaDataAnnotation(&next.ObjectMeta, volumes.BoundByController, "yes")
		}
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, volumes.BindCompleted, "yes")
		stored, err := c.claimAPI.Update(ctx, next)
		if err != nil {
			return fmt.Errorf("bind claim %s to volume %s: %w", reconcile.KeyOf(claim), pv.Name, err)
		}
		claim = stored
	}
	_, err := c.claimStatus(ctx, claim, corev1.ClaimBound, pv)
	return err
}

// phase sets a volume's phase.
func (c *controller) phase(ctx context.Context, pv *corev1.PersistentVolume, phase corev1.PersistentVolumePhase, message string) error {
	if pv.Status.Phase == phase {
		return nil
	}
	next := pv.DeepCopy()
	next.Status.Phase, next.Status.Message = phase, message
	if _, err := c.pvAPI.UpdateStatus(ctx, next); err != nil {
		return fmt.Errorf("phase of volume %s: %w", pv.Name, err)
	}
	return nil
}

// claimStatus sets a claim's phase and what it got from its volume, nil for none. It reports whether anything changed.
func (c *controller) claimStatus(ctx context.Context, claim *corev1.PersistentVolumeClaim, phase corev1.PersistentVolumeClaimPhase, pv *corev1.PersistentVolume) (bool, error) {
	next := claim.DeepCopy()
	next.Status.Phase = phase
	if pv == nil {
		next.Status.AccessModes, next.Status.Capacity, next.Status.CurrentVolumeAttributesClassName = nil, nil, nil
	} else {
		next.Status.AccessModes = slices.Clone(pv.Spec.AccessModes)
		if claim.Status.Phase != phase {
			// Later on, sizes that differ mean that the file system has yet to grow.
			size, err := capacity(pv)
			if err != nil {
				return false, err
			}
			next.Status.Capacity = size
		}
		if claim.Status.Phase == corev1.ClaimPending && phase == corev1.ClaimBound {
			next.Status.CurrentVolumeAttributesClassName = pv.Spec.VolumeAttributesClassName
		}
	}
	if equal.Semantic(claim.Status, next.Status) {
		return false, nil
	}
	if _, err := c.claimAPI.UpdateStatus(ctx, next); err != nil {
		return false, fmt.Errorf("status of claim %s: %w", reconcile.KeyOf(claim), err)
	}
	return true, nil
}

func capacity(pv *corev1.PersistentVolume) (corev1.ResourceList, error) {
	if _, ok := pv.Spec.Capacity[corev1.ResourceStorage]; !ok {
		return nil, fmt.Errorf("volume %s has no storage capacity", pv.Name)
	}
	size := pv.Spec.Capacity.DeepCopy()
	if before, ok := pv.Annotations[sizeBeforeResize]; ok {
		if q, err := resource.ParseQuantity(before); err == nil {
			size[corev1.ResourceStorage] = q
		}
	}
	return size, nil
}

// migrated are the in-tree provisioners whose work CSI drivers do.
func migrated(provisioner string) (string, bool) {
	switch provisioner {
	case "kubernetes.io/aws-ebs":
		return "ebs.csi.aws.com", true
	case "kubernetes.io/gce-pd":
		return "pd.csi.storage.gke.io", true
	case "kubernetes.io/cinder":
		return "cinder.csi.openstack.org", true
	case "kubernetes.io/azure-disk":
		return "disk.csi.azure.com", true
	case "kubernetes.io/azure-file":
		return "file.csi.azure.com", true
	case "kubernetes.io/vsphere-volume":
		return "csi.vsphere.vmware.com", true
	case "kubernetes.io/portworx-volume":
		return "pxd.portworx.com", true
	}
	return "", false
}

// provision asks the class's provisioner for a volume; every provisioner, kogge's own too, is outside of this loop.
func (c *controller) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	if class == nil {
		c.Events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", "storageclass.storage.k8s.io %q not found", volumes.ClaimClass(claim))
		return nil
	}
	name := class.Provisioner
	driver, isMigrated := migrated(name)
	switch {
	case isMigrated:
		name = driver
	case inTree(name):
		c.Events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", "no volume plugin matched name: %s", name)
		return nil
	}
	next := claim.DeepCopy()
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, volumes.BetaProvisioner, name)
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, volumes.Provisioner, name)
	if isMigrated {
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, volumes.MigratedTo, name)
	}
	if !equal.Semantic(claim.Annotations, next.Annotations) {
		if _, err := c.claimAPI.Update(ctx, next); err != nil {
			return fmt.Errorf("ask %s for a volume for claim %s: %w", name, reconcile.KeyOf(claim), err)
		}
		// The status is set when the change that was just made comes by.
	}
	c.Events.Event(claim, corev1.EventTypeNormal, "ExternalProvisioning",
		"Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. "+
			"If volume creation is delayed, please verify that the provisioner is running and correctly registered.", name)
	return nil
}

func inTree(provisioner string) bool {
	const prefix = "kubernetes.io/"
	return len(provisioner) >= len(prefix) && provisioner[:len(prefix)] == prefix
}
