// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kubelet/devices/claims"
	"kogge.dev/kogge/kubelet/pod"
)

// newClaims connects the resource claims with the API server, if there is one.
func (k *Kubelet) newClaims() *claims.Claims {
	config := claims.Config{
		Dir: k.config.Root, Logger: k.log, Changed: k.devicesChanged,
		Claim: func(context.Context, string, string) (*resourcev1.ResourceClaim, error) {
			return nil, errors.New("this node has no API server")
		},
		Wipe: func(context.Context, string) error { return nil },
	}
	if k.client != nil {
		api := client.Of[*resourcev1.ResourceClaim](k.client)
		config.Claim = api.Get
		config.Wipe = k.wipeSlices
	}
	return claims.New(config)
}

// wipeSlices deletes what a driver published for this node, or all drivers.
func (k *Kubelet) wipeSlices(ctx context.Context, driver string) error {
	selector := fields.Set{resourcev1.ResourceSliceSelectorNodeName: k.config.NodeName}
	if driver != "" {
		selector[resourcev1.ResourceSliceSelectorDriver] = driver
	}
	return client.Of[*resourcev1.ResourceSlice](k.client).DeleteCollection(ctx, "", metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: selector.String()})
}

// devicesChanged has pods report the health of their devices anew.
func (k *Kubelet) devicesChanged(pods []types.UID) {
	for _, uid := range pods {
		if w := k.worker(uid); w != nil {
			w.markDirty()
		}
	}
}

// withDevices adds the health of devices to a pod's status.
func (k *Kubelet) withDevices(p *corev1.Pod, s *corev1.PodStatus) *corev1.PodStatus {
	if len(p.Spec.ResourceClaims) == 0 {
		return s
	}
	s = s.DeepCopy()
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range list {
			if c, _ := pod.Find(p, list[i].Name); c != nil {
				list[i].AllocatedResourcesStatus = k.claims.Health(p, c)
			}
		}
	}
	return s
}
