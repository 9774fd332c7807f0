// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package noderestriction

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/rules/volumes"
)

// uses reports whether a volume of the pod needs tokens for the audience: a projected token, or a CSI driver that asks for it.
func (p *Plugin) uses(ctx context.Context, pod *corev1.Pod, audience string) (bool, error) {
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == audience {
					return true, nil
				}
			}
		}
		driver, err := p.driverOf(ctx, pod, v)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if driver == "" {
			continue
		}
		asks, err := p.driverAsks(ctx, driver, audience)
		if asks {
			return true, nil
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return false, errors.Join(errs...)
}

// driverOf returns the CSI driver behind a volume, or nothing.
func (p *Plugin) driverOf(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (string, error) {
	if v.CSI != nil {
		return v.CSI.Driver, nil
	}
	claimName := volumes.ClaimName(pod, v)
	if claimName == "" {
		return "", nil
	}
	claims := schema.GroupResource{Resource: "persistentvolumeclaims"}
	claim, found, err := admission.GetAny[*corev1.PersistentVolumeClaim](ctx, p.Reader, claims, pod.Namespace, claimName)
	if err == nil && !found {
		err = apierrors.NewNotFound(claims, claimName)
	}
	if err != nil {
		return "", err
	}
	pv, found, err := admission.GetAny[*corev1.PersistentVolume](ctx, p.Reader, schema.GroupResource{Resource: "persistentvolumes"}, "", claim.Spec.VolumeName)
	if err != nil || !found || pv.Spec.CSI == nil {
		return "", err
	}
	return pv.Spec.CSI.Driver, nil
}

func (p *Plugin) driverAsks(ctx context.Context, name, audience string) (bool, error) {
	gr := schema.GroupResource{Group: storagev1.GroupName, Resource: "csidrivers"}
	driver, found, err := admission.GetAny[*storagev1.CSIDriver](ctx, p.Reader, gr, "", name)
	if err == nil && !found {
		err = apierrors.NewNotFound(schema.GroupResource{Group: storagev1.GroupName, Resource: "csidriver"}, name) // As upstream calls it here.
	}
	if err != nil {
		return false, err
	}
	for _, t := range driver.Spec.TokenRequests {
		if t.Audience == audience {
			return true, nil
		}
	}
	return false, nil
}
