// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"kogge.dev/kogge/kubelet/pod"
)

// resourceServer tells monitoring agents of the node which pod has which devices (podresources v1, KEP-606). No container has CPUs
// or memory of its own here, so that these lists are empty.
type resourceServer struct {
	podresources.UnimplementedPodResourcesListerServer
	k *Kubelet
}

// servePodResources serves <root>/pod-resources/kubelet.sock until ctx ends. Whoever may open the socket may ask: it is root's.
func (k *Kubelet) servePodResources(ctx context.Context) error {
	dir := filepath.Join(k.config.Root, "pod-resources")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make folder of pod resources: %w", err)
	}
	socket := filepath.Join(dir, "kubelet.sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old socket: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if errors.Is(err, unix.EINVAL) { // the folder's name is too long for a socket
		k.log.Warn("the podresources API is not served", "err", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen for pod resources: %w", err)
	}
	server := grpc.NewServer()
	podresources.RegisterPodResourcesListerServer(server, resourceServer{k: k})
	defer context.AfterFunc(ctx, server.Stop)()
	if err := server.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve pod resources: %w", err)
	}
	return nil
}

// List tells of every pod that is not over.
func (s resourceServer) List(context.Context, *podresources.ListPodResourcesRequest) (*podresources.ListPodResourcesResponse, error) {
	out := &podresources.ListPodResourcesResponse{}
	for _, w := range s.k.all() {
		if v := w.view.Load(); v.stage != pod.Terminated {
			out.PodResources = append(out.PodResources, s.of(v.pod))
		}
	}
	return out, nil
}

// Get tells of one pod.
func (s resourceServer) Get(_ context.Context, in *podresources.GetPodResourcesRequest) (*podresources.GetPodResourcesResponse, error) {
	for _, w := range s.k.all() {
		if p := w.view.Load().pod; p.Name == in.GetPodName() && p.Namespace == in.GetPodNamespace() {
			return &podresources.GetPodResourcesResponse{PodResources: s.of(p)}, nil
		}
	}
	return nil, fmt.Errorf("pod %s in namespace %s not found", in.GetPodName(), in.GetPodNamespace())
}

// GetAllocatableResources tells of all devices that can be given to pods.
func (s resourceServer) GetAllocatableResources(context.Context, *podresources.AllocatableResourcesRequest) (*podresources.AllocatableResourcesResponse, error) {
	out := &podresources.AllocatableResourcesResponse{}
	for name, list := range s.k.devices.Usable() {
		for _, d := range list {
			out.Devices = append(out.Devices, containerDevices(name, d))
		}
	}
	return out, nil
}

func containerDevices(name string, d *deviceplugin.Device) *podresources.ContainerDevices {
	out := &podresources.ContainerDevices{ResourceName: name, DeviceIds: []string{d.GetID()}}
	for _, n := range d.GetTopology().GetNodes() {
		if out.Topology == nil {
			out.Topology = &podresources.TopologyInfo{}
		}
		out.Topology.Nodes = append(out.Topology.Nodes, &podresources.NUMANode{ID: n.GetID()})
	}
	return out
}

// of tells of one pod; init containers that end count no more.
func (s resourceServer) of(p *corev1.Pod) *podresources.PodResources {
	out := &podresources.PodResources{Name: p.Name, Namespace: p.Namespace}
	for i := range p.Spec.InitContainers {
		if pod.IsSidecar(&p.Spec.InitContainers[i]) {
			out.Containers = append(out.Containers, s.container(p, &p.Spec.InitContainers[i]))
		}
	}
	for i := range p.Spec.Containers {
		out.Containers = append(out.Containers, s.container(p, &p.Spec.Containers[i]))
	}
	return out
}

func (s resourceServer) container(p *corev1.Pod, c *corev1.Container) *podresources.ContainerResources {
	out := &podresources.ContainerResources{Name: c.Name}
	for name, list := range s.k.devices.Given(p.UID, c.Name) {
		for _, d := range list {
			out.Devices = append(out.Devices, containerDevices(name, d))
		}
	}
	uses, err := s.k.claims.Of(p, c)
	if err != nil {
		return out // its claims are not prepared yet
	}
	for _, u := range uses {
		claim := &podresources.ClaimResource{DriverName: u.Driver, PoolName: u.PoolName, DeviceName: u.DeviceName, ShareId: (*string)(u.ShareID)}
		for _, id := range u.CDIDeviceIDs {
			claim.CdiDevices = append(claim.CdiDevices, &podresources.CDIDevice{Name: id})
		}
		if n := len(out.DynamicResources); n > 0 && out.DynamicResources[n-1].GetClaimName() == u.Claim.Name {
			out.DynamicResources[n-1].ClaimResources = append(out.DynamicResources[n-1].ClaimResources, claim)
			continue
		}
		out.DynamicResources = append(out.DynamicResources, &podresources.DynamicResource{
			ClaimName: u.Claim.Name, ClaimNamespace: u.Claim.Namespace, ClaimResources: []*podresources.ClaimResource{claim},
		})
	}
	return out
}
