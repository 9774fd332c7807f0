// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	criFake "kogge.dev/kogge/cri/fake"
	"kogge.dev/kogge/csi/fake"
	"kogge.dev/kogge/testcluster"
)

const csiPod = `
metadata: {name: disks, namespace: default}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  securityContext: {fsGroup: 2000}
  containers:
  - name: c
    image: example.org/app:1
    volumeMounts: [{name: pv, mountPath: /pv}, {name: inline, mountPath: /inline}]
  volumes:
  - {name: pv, persistentVolumeClaim: {claimName: claim}}
  - {name: inline, csi: {driver: test.example.org, volumeAttributes: {a: b}}}
`

func TestVolumesOfACSIDriverAreStagedPublishedAndTakenDown(t *testing.T) {
	cluster := testcluster.New(t)
	cri := criFake.New(criFake.Config{}, "example.org/app:1")
	root := node(t, cluster, cri)
	admin, ctx := cluster.Admin(), t.Context()
	driver := runDriver(t, root)
	eventually(t, "CSINode names the driver", func() bool {
		n, err := client.Of[*storagev1.CSINode](admin).Get(ctx, "", "n1")
		return err == nil && len(n.Spec.Drivers) == 1 && n.Spec.Drivers[0].NodeID == "id-of-n1" && *n.Spec.Drivers[0].Allocatable.Count == 7
	})
	eventually(t, "node has the topology label", func() bool {
		n, err := client.Of[*corev1.Node](admin).Get(ctx, "", "n1")
		return err == nil && n.Labels["test.example.org/zone"] == "z"
	})
	makeDisks(t, admin, false)
	if _, err := client.Of[*corev1.Pod](admin).Create(ctx, parse[corev1.Pod](t, csiPod)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "container runs", func() bool { return len(cri.Find("disks", "c")) == 1 })
	if driver.Published() != 2 || driver.Staged() != 1 {
		t.Errorf("published %d, staged %d, want 2 and 1", driver.Published(), driver.Staged())
	}
	if got, ok := driver.Context("vol-1"); !ok || got["csi.storage.k8s.io/pod.name"] != "disks" {
		t.Errorf("context of vol-1 = %v, %v, want the pod's name", got, ok)
	}
	if err := client.Of[*corev1.Pod](admin).Delete(ctx, "default", "disks", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pod is gone", func() bool {
		_, err := client.Of[*corev1.Pod](admin).Get(ctx, "default", "disks")
		return apierrors.IsNotFound(err)
	})
	if driver.Published() != 0 || driver.Staged() != 0 {
		t.Errorf("published %d, staged %d after the pod, want none", driver.Published(), driver.Staged())
	}
}

// runDriver runs a driver and returns once the kubelet with this root folder accepted it.
func runDriver(t *testing.T, root string) *fake.Driver {
	t.Helper()
	registry := filepath.Join(root, "plugins_registry")
	eventually(t, "registration folder", func() bool { _, err := os.Stat(registry); return err == nil })
	driver := fake.New(fake.Config{Name: "test.example.org", NodeID: "id-of-n1", Dir: shortDir(t), Topology: map[string]string{"test.example.org/zone": "z"}})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- driver.Run(ctx, registry) }()
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
	case err := <-done:
		done <- err
		t.Fatalf("driver ended: %v", err)
	case <-time.After(patience):
		t.Fatal("the kubelet does not see the driver")
	}
	return driver
}

// A volume that is attached is named in the node's status before it is mounted and until it is taken down; one that has
// grown while it was not mounted is grown on the node too.
func TestAttachedVolumeIsInUseBeforeItIsMountedAndGrows(t *testing.T) {
	cluster := testcluster.New(t)
	cri := criFake.New(criFake.Config{}, "example.org/app:1")
	root := node(t, cluster, cri)
	admin, ctx := cluster.Admin(), t.Context()
	driver := runDriver(t, root)
	makeDisks(t, admin, true)
	inUse := func() bool {
		n, err := client.Of[*corev1.Node](admin).Get(ctx, "", "n1")
		return err == nil && slices.Contains(n.Status.VolumesInUse, "kubernetes.io/csi/test.example.org^vol-1")
	}
	if _, err := client.Of[*corev1.Pod](admin).Create(ctx, parse[corev1.Pod](t, csiPod)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node's status names the volume", inUse)
	if driver.Staged() != 0 {
		t.Error("the volume is staged before it is attached")
	}
	sum := sha256.Sum256([]byte("vol-1" + "test.example.org" + "n1"))
	attachments, pv := client.Of[*storagev1.VolumeAttachment](admin), "pv1"
	a := &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("csi-%x", sum)},
		Spec: storagev1.VolumeAttachmentSpec{
			Attacher: "test.example.org", NodeName: "n1", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &pv},
		},
	}
	if _, err := attachments.Create(ctx, a); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	a, err := attachments.Get(ctx, "", a.Name)
	if err != nil {
		t.Fatal(err)
	}
	a = a.DeepCopy()
	a.Status.Attached = true
	if _, err := attachments.UpdateStatus(ctx, a); err != nil {
		t.Fatal(err)
	}
	eventually(t, "container runs", func() bool { return len(cri.Find("disks", "c")) == 1 })
	if got := driver.Size("vol-1"); got != 2<<30 {
		t.Errorf("node was told a size of %d, want %d", got, 2<<30)
	}
	claim, err := client.Of[*corev1.PersistentVolumeClaim](admin).Get(ctx, "default", "claim")
	if err != nil || claim.Status.Capacity.Storage().Value() != 2<<30 {
		t.Errorf("claim has %v, %v, want 2Gi", claim.Status.Capacity.Storage(), err)
	}
	if err := client.Of[*corev1.Pod](admin).Delete(ctx, "default", "disks", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node's status names the volume no more", func() bool { return !inUse() })
	if driver.Staged() != 0 {
		t.Error("the volume is staged still")
	}
}

// makeDisks makes a bound claim of a volume. One that needs attachment has also grown to 2Gi since it was bound.
func makeDisks(t *testing.T, admin *client.Client, attach bool) {
	t.Helper()
	ctx := t.Context()
	_, err := client.Of[*storagev1.CSIDriver](admin).Create(ctx, parse[storagev1.CSIDriver](t,
		fmt.Sprintf("{metadata: {name: test.example.org}, spec: {attachRequired: %v, podInfoOnMount: true, volumeLifecycleModes: [Persistent, Ephemeral]}}", attach)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Of[*corev1.PersistentVolume](admin).Create(ctx, parse[corev1.PersistentVolume](t, `
metadata: {name: pv1}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: none
  csi: {driver: test.example.org, volumeHandle: vol-1, fsType: ext4}
`))
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Of[*corev1.PersistentVolumeClaim](admin).Create(ctx, parse[corev1.PersistentVolumeClaim](t, `
metadata: {name: claim, namespace: default}
spec: {accessModes: [ReadWriteOnce], storageClassName: none, resources: {requests: {storage: 1Gi}}, volumeName: pv1}
`))
	if err != nil {
		t.Fatal(err)
	}
	disks := client.Of[*corev1.PersistentVolume](admin)
	eventually(t, "claim and volume are bound", func() bool {
		c, err := client.Of[*corev1.PersistentVolumeClaim](admin).Get(ctx, "default", "claim")
		if err != nil || c.Status.Phase != corev1.ClaimBound {
			return false
		}
		v, err := disks.Get(ctx, "", "pv1")
		return err == nil && v.Status.Phase == corev1.VolumeBound
	})
	if !attach {
		return
	}
	if _, err := disks.Patch(ctx, "", "pv1", types.MergePatchType, []byte(`{"spec":{"capacity":{"storage":"2Gi"}}}`)); err != nil {
		t.Fatal(err)
	}
}
