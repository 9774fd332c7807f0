// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"kogge.dev/kogge/client"
	criFake "kogge.dev/kogge/cri/fake"
	"kogge.dev/kogge/kubelet/devices/fake"
	"kogge.dev/kogge/testcluster"
)

// devicePod asks for devices in an init container, which gives its own on to the container after it.
func devicePod(name, count string) string {
	return `
metadata: {name: ` + name + `, namespace: default}
spec:
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  initContainers:
  - {name: i, image: example.org/app:1, resources: {limits: {example.com/dev: "1"}}}
  containers:
  - {name: c, image: example.org/app:1, env: [{name: MINE, value: x}], resources: {limits: {example.com/dev: "` + count + `"}}}
`
}

// TestDevicesOfAPlugin goes the whole way: capacity of the node, scheduling, allocation, start, health, and freedom for the next.
func TestDevicesOfAPlugin(t *testing.T) {
	cluster := testcluster.New(t)
	cri := criFake.New(criFake.Config{}, "example.org/app:1")
	root := node(t, cluster, cri)
	admin, ctx := cluster.Admin(), t.Context()
	dir := filepath.Join(root, "device-plugins")
	eventually(t, "registration socket", func() bool { _, err := os.Stat(filepath.Join(dir, "kubelet.sock")); return err == nil })
	plugin := fake.NewPlugin("example.com/dev", dir, "dev.sock", "d1", "d2", "d3")
	pluginCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- plugin.Run(pluginCtx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("plugin: %v", err)
		}
	})
	amounts := func(what, capacity, allocatable string) {
		t.Helper()
		eventually(t, what, func() bool {
			n, err := client.Of[*corev1.Node](admin).Get(ctx, "", "n1")
			if err != nil {
				return false
			}
			all, usable := n.Status.Capacity["example.com/dev"], n.Status.Allocatable["example.com/dev"]
			return all.String() == capacity && usable.String() == allocatable
		})
	}
	amounts("node has devices", "3", "3")
	pods := client.Of[*corev1.Pod](admin)
	if _, err := pods.Create(ctx, parse[corev1.Pod](t, devicePod("train", "2"))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "init container runs", func() bool { return len(cri.Find("train", "i")) == 1 })
	if err := cri.Exit(cri.Find("train", "i")[0], 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "container runs", func() bool { return len(cri.Find("train", "c")) == 1 })
	config := cri.Created(cri.Find("train", "c")[0])
	var paths, env, cdi []string
	for _, d := range config.GetDevices() {
		paths = append(paths, d.GetContainerPath())
	}
	for _, e := range config.GetEnvs() {
		env = append(env, e.GetKey()+"="+string(e.GetValue()))
	}
	for _, d := range config.GetCDIDevices() {
		cdi = append(cdi, d.GetName())
	}
	// The init container got d3, the one that the plugin prefers; the container has it again, and the next best.
	if !slices.Equal(paths, []string{"/dev/d3", "/dev/d2"}) || !slices.Equal(cdi, []string{"example.com/dev=d3", "example.com/dev=d2"}) {
		t.Errorf("devices of the container: %v, %v", paths, cdi)
	}
	if !slices.Contains(env, "DEVICES=[d3 d2]") || !slices.Contains(env, "MINE=x") || config.GetAnnotations()["example.com/devices"] != "[d3 d2]" ||
		config.GetMounts()[len(config.GetMounts())-1].GetContainerPath() != "/lib/driver" {
		t.Errorf("environment %v, annotations %v, mounts %v", env, config.GetAnnotations(), config.GetMounts())
	}
	if got := plugin.Started(); len(got) != 2 || !slices.Equal(got[0], []string{"d3"}) || !slices.Equal(got[1], []string{"d3", "d2"}) {
		t.Errorf("starts: %v", got)
	}

	checkPodResources(t, filepath.Join(root, "pod-resources", "kubelet.sock"))

	// Another one waits until there are devices again.
	if _, err := pods.Create(ctx, parse[corev1.Pod](t, devicePod("next", "2"))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "second pod does not fit", func() bool {
		p, err := pods.Get(ctx, "default", "next")
		return err == nil && len(p.Status.Conditions) > 0 && strings.Contains(p.Status.Conditions[0].Message, "Insufficient example.com/dev")
	})
	plugin.Break("d2")
	amounts("node has an unhealthy device", "3", "2")
	eventually(t, "status shows the unhealthy device", func() bool {
		p, err := pods.Get(ctx, "default", "train")
		if err != nil || len(p.Status.ContainerStatuses) == 0 {
			return false
		}
		for _, s := range p.Status.ContainerStatuses[0].AllocatedResourcesStatus {
			for _, r := range s.Resources {
				if s.Name == "example.com/dev" && r.ResourceID == "d2" && r.Health == corev1.ResourceHealthStatusUnhealthy {
					return true
				}
			}
		}
		return false
	})
	if err := pods.Delete(ctx, "default", "train", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "second pod starts", func() bool { return len(cri.Find("next", "i")) == 1 })
}

// checkPodResources asks as a monitoring agent of the node does.
func checkPodResources(t *testing.T, socket string) {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // only read
	api := podresources.NewPodResourcesListerClient(conn)
	list, err := api.List(t.Context(), &podresources.ListPodResourcesRequest{})
	if err != nil || len(list.GetPodResources()) != 1 || list.GetPodResources()[0].GetName() != "train" {
		t.Fatalf("List = %v, %v", list, err)
	}
	devices := list.GetPodResources()[0].GetContainers()[0].GetDevices()
	if len(devices) != 2 || devices[0].GetResourceName() != "example.com/dev" || devices[0].GetDeviceIds()[0] != "d3" || len(devices[0].GetTopology().GetNodes()) != 1 {
		t.Errorf("devices of the container: %v", devices)
	}
	all, err := api.GetAllocatableResources(t.Context(), &podresources.AllocatableResourcesRequest{})
	if err != nil || len(all.GetDevices()) != 3 {
		t.Errorf("GetAllocatableResources = %v, %v", all, err)
	}
	if _, err := api.Get(t.Context(), &podresources.GetPodResourcesRequest{PodName: "absent", PodNamespace: "default"}); err == nil {
		t.Error("Get of an absent pod succeeded")
	}
}
