// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
)

// mountClaim makes the volume that a claim is bound to.
func (v *Volumes) mountClaim(ctx context.Context, p *corev1.Pod, vol *corev1.Volume, name string, readOnly bool) error {
	pvc, pv, err := v.bound(ctx, p, vol, name)
	if err != nil {
		return err
	}
	for _, mode := range pv.Spec.AccessModes {
		if mode == corev1.ReadOnlyMany && len(pv.Spec.AccessModes) == 1 {
			readOnly = true
		}
	}
	switch s := &pv.Spec.PersistentVolumeSource; {
	case s.HostPath != nil:
		return checkHostPath(s.HostPath)
	case s.Local != nil:
		if _, err := os.Stat(s.Local.Path); err != nil {
			return fmt.Errorf("path %q does not exist", s.Local.Path)
		}
		if group := fsGroup(p); group != nil && !readOnly {
			return ownIfMismatched(s.Local.Path, *group)
		}
		return nil
	case s.CSI != nil:
		return v.mountPersistentCSI(ctx, p, vol.Name, pvc, pv, readOnly)
	case s.NFS != nil, s.ISCSI != nil, s.FC != nil:
		return errors.New("network volumes need a CSI driver on this node")
	}
	return errors.New("no volume plugin matched")
}

// bound returns a claim of the pod and the volume that it is bound to.
func (v *Volumes) bound(ctx context.Context, p *corev1.Pod, vol *corev1.Volume, name string) (*corev1.PersistentVolumeClaim, *corev1.PersistentVolume, error) {
	if v.config.Client == nil {
		return nil, nil, errors.New("this node has no API server to ask for claims")
	}
	pvc, err := client.Of[*corev1.PersistentVolumeClaim](v.config.Client).Get(ctx, p.Namespace, name)
	if err != nil {
		return nil, nil, fmt.Errorf("failed to fetch PVC from API server: %w", err)
	}
	if vol.Ephemeral != nil && !metav1.IsControlledBy(pvc, p) {
		return nil, nil, fmt.Errorf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", pvc.Namespace, pvc.Name, p.Namespace, p.Name)
	}
	if pvc.DeletionTimestamp != nil && vol.Ephemeral == nil && !protected(pvc) {
		return nil, nil, errors.New("can't start pod because PVC is being deleted")
	}
	if pvc.Status.Phase != corev1.ClaimBound || pvc.Spec.VolumeName == "" {
		return nil, nil, fmt.Errorf("PVC %s/%s is not bound", pvc.Namespace, pvc.Name)
	}
	pv, err := client.Of[*corev1.PersistentVolume](v.config.Client).Get(ctx, "", pvc.Spec.VolumeName)
	if err != nil {
		return nil, nil, fmt.Errorf("failed to get PV %s from API server: %w", pvc.Spec.VolumeName, err)
	}
	if ref := pv.Spec.ClaimRef; ref == nil || ref.UID != pvc.UID {
		return nil, nil, fmt.Errorf("PV %s is not bound to PVC %s/%s", pv.Name, pvc.Namespace, pvc.Name)
	}
	return pvc, pv, nil
}

func protected(pvc *corev1.PersistentVolumeClaim) bool {
	return slices.Contains(pvc.Finalizers, "kubernetes.io/pvc-protection")
}

// claimPath is where a claim's volume lies on the node.
func (v *Volumes) claimPath(ctx context.Context, p *corev1.Pod, vol *corev1.Volume) (string, error) {
	name := p.Name + "-" + vol.Name
	if c := vol.PersistentVolumeClaim; c != nil {
		name = c.ClaimName
	}
	_, pv, err := v.bound(ctx, p, vol, name)
	if err != nil {
		return "", err
	}
	switch s := &pv.Spec.PersistentVolumeSource; {
	case s.HostPath != nil:
		return s.HostPath.Path, nil
	case s.Local != nil:
		return s.Local.Path, nil
	case s.CSI != nil && isBlock(pv):
		return v.blockTarget(p.UID, pv.Name), nil
	case s.CSI != nil:
		return v.dir(p.UID, pluginCSI, pv.Name) + "/mount", nil
	}
	return "", errors.New("no volume plugin matched")
}

func isBlock(pv *corev1.PersistentVolume) bool {
	return pv.Spec.VolumeMode != nil && *pv.Spec.VolumeMode == corev1.PersistentVolumeBlock
}
