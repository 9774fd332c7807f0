// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kubelet/devices"
	"kogge.dev/kogge/kubelet/devices/claims"
	"kogge.dev/kogge/kubelet/pod"
	"kogge.dev/kogge/kubelet/render"
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
	if len(p.Spec.ResourceClaims) == 0 && !k.devices.Has(p.UID) {
		return s
	}
	s = s.DeepCopy()
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range list {
			if c, _ := pod.Find(p, list[i].Name); c != nil {
				list[i].AllocatedResourcesStatus = append(k.devices.Health(p.UID, c.Name), k.claims.Health(p, c)...)
			}
		}
	}
	return s
}

// allocateDevices gives the pod's containers the devices that they ask for. A pod for which there are none can't run here: it was
// admitted by numbers that do not hold any more.
func (k *Kubelet) allocateDevices(ctx context.Context, w *worker, p *corev1.Pod) error {
	err := k.devices.Allocate(ctx, p)
	if errors.Is(err, devices.ErrUnavailable) {
		end := pod.End{
			Rejected: true, Reason: "UnexpectedAdmissionError",
			Message: fmt.Sprintf("Pod was rejected: Allocate failed due to %v, which is unexpected", err),
		}
		w.post(func() { w.machine.Terminate(end) })
		w.event(p, "", corev1.EventTypeWarning, end.Reason, end.Message)
	}
	return err
}

// addDevices adds to a container what its device plugins say that it needs.
func (k *Kubelet) addDevices(ctx context.Context, p *corev1.Pod, s *render.Container) error {
	needs, err := k.devices.Start(ctx, p.UID, s.Spec.Name)
	if err != nil {
		return err
	}
	for _, d := range needs.GetDevices() {
		s.Devices = append(s.Devices, &runtimeapi.Device{ContainerPath: d.GetContainerPath(), HostPath: d.GetHostPath(), Permissions: d.GetPermissions()})
	}
	for _, m := range needs.GetMounts() {
		s.Mounts = append(s.Mounts, &runtimeapi.Mount{ContainerPath: m.GetContainerPath(), HostPath: m.GetHostPath(), Readonly: m.GetReadOnly()})
	}
	for _, d := range needs.GetCdiDevices() {
		if !slices.Contains(s.CDIDevices, d.GetName()) {
			s.CDIDevices = append(s.CDIDevices, d.GetName())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(needs.GetEnvs())) {
		// What the pod says itself wins.
		if !slices.ContainsFunc(s.Env, func(e *runtimeapi.KeyValue) bool { return e.GetKey() == name }) {
			s.Env = append(s.Env, &runtimeapi.KeyValue{Key: name, Value: []byte(needs.GetEnvs()[name])})
		}
	}
	s.Annotations = needs.GetAnnotations()
	return nil
}
