// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	criFake "kogge.dev/kogge/cri/fake"
	"kogge.dev/kogge/kubelet/devices/fake"
	"kogge.dev/kogge/testcluster"
)

const draPod = `
metadata: {name: train, namespace: default}
spec:
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  resourceClaims: [{name: gpu, resourceClaimTemplateName: one-gpu}]
  containers:
  - {name: c, image: example.org/app:1, resources: {claims: [{name: gpu}]}}
  - {name: other, image: example.org/app:1}
`

// TestDevicesOfADRADriver goes the whole way: a slice of a registered driver, a claim made from a template, scheduled, prepared,
// shown to the one container that asks for it, unprepared and gone with the pod.
func TestDevicesOfADRADriver(t *testing.T) {
	cluster := testcluster.New(t)
	cri := criFake.New(criFake.Config{}, "example.org/app:1")
	root := node(t, cluster, cri)
	admin, ctx := cluster.Admin(), t.Context()
	registry := filepath.Join(root, "plugins_registry")
	eventually(t, "registration folder", func() bool { _, err := os.Stat(registry); return err == nil })
	driver := fake.NewDriver("gpu.example.com", shortDir(t))
	driverCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- driver.Run(driverCtx, registry) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("driver: %v", err)
		}
	})
	select {
	case err := <-driver.Registered():
		if err != nil {
			t.Fatalf("registration refused: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the kubelet does not see the driver")
	}
	makeDevices(t, admin)
	pods := client.Of[*corev1.Pod](admin)
	if _, err := pods.Create(ctx, parse[corev1.Pod](t, draPod)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "containers run", func() bool { return len(cri.Find("train", "c")) == 1 && len(cri.Find("train", "other")) == 1 })
	claims, err := client.Of[*resourcev1.ResourceClaim](admin).List(ctx, "default", metav1.ListOptions{})
	if err != nil || len(claims.Items) != 1 {
		t.Fatalf("claims: %v, %v, want one", claims.Items, err)
	}
	name := claims.Items[0].Name
	if got := driver.Prepared(); len(got) != 1 || got[name] != 1 {
		t.Errorf("prepared %v, want %s once", got, name)
	}
	if got := cri.Created(cri.Find("train", "c")[0]).GetCDIDevices(); len(got) != 1 || got[0].GetName() != "example.com/gpu="+name {
		t.Errorf("CDI devices of c: %v", got)
	}
	if got := cri.Created(cri.Find("train", "other")[0]).GetCDIDevices(); len(got) != 0 {
		t.Errorf("CDI devices of the other container: %v", got)
	}
	eventually(t, "status shows the device", func() bool {
		p, err := pods.Get(ctx, "default", "train")
		if err != nil || len(p.Status.ContainerStatuses) != 2 {
			return false
		}
		s := p.Status.ContainerStatuses[0].AllocatedResourcesStatus
		return len(s) == 1 && s[0].Name == "claim:gpu" && len(s[0].Resources) == 1 && s[0].Resources[0].ResourceID == corev1.ResourceID("example.com/gpu="+name)
	})
	if err := pods.Delete(ctx, "default", "train", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pod and claim are gone", func() bool {
		_, err1 := pods.Get(ctx, "default", "train")
		_, err2 := client.Of[*resourcev1.ResourceClaim](admin).Get(ctx, "default", name)
		return apierrors.IsNotFound(err1) && apierrors.IsNotFound(err2)
	})
	if got := driver.Prepared(); len(got) != 0 {
		t.Errorf("still prepared: %v", got)
	}
}

func makeDevices(t *testing.T, admin *client.Client) {
	t.Helper()
	ctx := t.Context()
	if _, err := client.Of[*resourcev1.DeviceClass](admin).Create(ctx, parse[resourcev1.DeviceClass](t, `
metadata: {name: gpu}
spec: {selectors: [{cel: {expression: 'device.driver == "gpu.example.com"'}}]}
`)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Of[*resourcev1.ResourceSlice](admin).Create(ctx, parse[resourcev1.ResourceSlice](t, `
metadata: {name: n1-gpu}
spec:
  driver: gpu.example.com
  nodeName: n1
  pool: {name: n1, generation: 1, resourceSliceCount: 1}
  devices: [{name: gpu0}]
`)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Of[*resourcev1.ResourceClaimTemplate](admin).Create(ctx, parse[resourcev1.ResourceClaimTemplate](t, `
metadata: {name: one-gpu, namespace: default}
spec: {spec: {devices: {requests: [{name: r, exactly: {deviceClassName: gpu}}]}}}
`)); err != nil {
		t.Fatal(err)
	}
}
