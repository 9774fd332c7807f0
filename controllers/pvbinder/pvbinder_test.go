// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pvbinder_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/rules/volumes"
	"kogge.dev/kogge/testcluster"
)

const limit = 10 * time.Second

func claim(name, class, size string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}},
		},
	}
}

func volume(name, class, size string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Capacity:               corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)},
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv/" + name}},
		},
	}
}

func create[T kinds.Object](t *testing.T, c *client.Client, objs ...T) {
	t.Helper()
	for _, obj := range objs {
		if _, err := client.Of[T](c).Create(t.Context(), obj); err != nil {
			t.Fatalf("create %s: %v", obj.GetName(), err)
		}
	}
}

func find[T kinds.Object](all []T, name string) (found T, ok bool) {
	for _, obj := range all {
		if obj.GetName() == name {
			return obj, true
		}
	}
	return found, false
}

// await waits until the named object satisfies ok.
func await[T kinds.Object](t *testing.T, c *client.Client, namespace, name string, ok func(T) bool) T {
	t.Helper()
	all := testcluster.Await(t, c, namespace, limit, func(all []T) bool {
		obj, there := find(all, name)
		return there && ok(obj)
	})
	obj, _ := find(all, name)
	return obj
}

func awaitEvent(t *testing.T, c *client.Client, about, reason, text string) {
	t.Helper()
	testcluster.Await(t, c, "", limit, func(all []*corev1.Event) bool {
		for _, e := range all {
			if e.InvolvedObject.Name == about && e.Reason == reason && strings.Contains(e.Message, text) {
				return true
			}
		}
		return false
	})
}

func isBound(c *corev1.PersistentVolumeClaim) bool { return c.Status.Phase == corev1.ClaimBound }

func hasPhase(phase corev1.PersistentVolumePhase) func(*corev1.PersistentVolume) bool {
	return func(pv *corev1.PersistentVolume) bool { return pv.Status.Phase == phase }
}

// TestBindsTheSmallestThatFits also follows the volume when its claim goes.
func TestBindsTheSmallestThatFits(t *testing.T) {
	c := testcluster.New(t).Admin()
	create(t, c, volume("huge", "manual", "10Gi"), volume("right", "manual", "2Gi"), volume("small", "manual", "1Gi"))
	for _, name := range []string{"huge", "right", "small"} {
		await(t, c, "", name, hasPhase(corev1.VolumeAvailable))
	}
	// Once the binder has bound a later volume it has seen all of these.
	create(t, c, volume("other", "else", "2Gi"))
	create(t, c, claim("other", "else", "1Gi"))
	await(t, c, "default", "other", isBound)
	create(t, c, claim("data", "manual", "1500Mi"))
	bound := await(t, c, "default", "data", isBound)
	if bound.Spec.VolumeName != "right" {
		t.Fatalf("claim got volume %q, want right", bound.Spec.VolumeName)
	}
	if got := bound.Status.Capacity[corev1.ResourceStorage]; got.String() != "2Gi" {
		t.Errorf("claim's capacity = %s, want 2Gi", got.String())
	}
	for _, key := range []string{volumes.BindCompleted, volumes.BoundByController} {
		if bound.Annotations[key] != "yes" {
			t.Errorf("claim lacks annotation %s: %v", key, bound.Annotations)
		}
	}
	pv := await(t, c, "", "right", hasPhase(corev1.VolumeBound))
	if pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != bound.UID {
		t.Errorf("volume refers to %+v", pv.Spec.ClaimRef)
	}
	if err := client.Of[*corev1.PersistentVolumeClaim](c).Delete(t.Context(), "default", "data", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, c, "", "right", hasPhase(corev1.VolumeReleased))
}

// TestClaimThatWaitsIsBoundByAVolumeThatComes also checks the selector.
func TestClaimThatWaitsIsBoundByAVolumeThatComes(t *testing.T) {
	c := testcluster.New(t).Admin()
	waiting := claim("data", "", "1Gi")
	waiting.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"speed": "fast"}}
	create(t, c, waiting)
	awaitEvent(t, c, "data", "FailedBinding", "no persistent volumes available")
	fast := volume("fast", "", "1Gi")
	fast.Labels = map[string]string{"speed": "fast"}
	create(t, c, volume("slow", "", "1Gi"), fast)
	if got := await(t, c, "default", "data", isBound); got.Spec.VolumeName != "fast" {
		t.Errorf("claim got volume %q, want fast", got.Spec.VolumeName)
	}
	await(t, c, "", "slow", hasPhase(corev1.VolumeAvailable))
}

func TestClaimOfAMissingVolumeIsLost(t *testing.T) {
	c := testcluster.New(t).Admin()
	create(t, c, volume("pv", "manual", "1Gi"))
	create(t, c, claim("data", "manual", "1Gi"))
	await(t, c, "default", "data", isBound)
	pvs := client.Of[*corev1.PersistentVolume](c)
	if err := pvs.Delete(t.Context(), "", "pv", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	pv, err := pvs.Get(t.Context(), "", "pv")
	if err == nil && len(pv.Finalizers) > 0 {
		next := pv.DeepCopy()
		next.Finalizers = nil
		if _, err := pvs.Update(t.Context(), next); err != nil {
			t.Fatal(err)
		}
	}
	await(t, c, "default", "data", func(c *corev1.PersistentVolumeClaim) bool { return c.Status.Phase == corev1.ClaimLost })
	awaitEvent(t, c, "data", "ClaimLost", "Data on the volume is lost!")
}

// TestExternalProvisioner plays the part of one.
func TestExternalProvisioner(t *testing.T) {
	c := testcluster.New(t).Admin()
	mode := storagev1.VolumeBindingImmediate
	create(t, c, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "remote"}, Provisioner: "example.com/disk", VolumeBindingMode: &mode})
	create(t, c, claim("data", "remote", "1Gi"))
	asked := await(t, c, "default", "data", func(c *corev1.PersistentVolumeClaim) bool {
		return c.Annotations[volumes.Provisioner] == "example.com/disk"
	})
	if asked.Annotations[volumes.BetaProvisioner] != "example.com/disk" {
		t.Errorf("annotations = %v", asked.Annotations)
	}
	awaitEvent(t, c, "data", "ExternalProvisioning", "'example.com/disk'")
	made := volume("pvc-1", "remote", "1Gi")
	made.Annotations = map[string]string{volumes.ProvisionedBy: "example.com/disk"}
	made.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
	made.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: "default", Name: "data", UID: asked.UID}
	create(t, c, made)
	if got := await(t, c, "default", "data", isBound); got.Spec.VolumeName != "pvc-1" {
		t.Errorf("claim got volume %q", got.Spec.VolumeName)
	}
	if err := client.Of[*corev1.PersistentVolumeClaim](c).Delete(t.Context(), "default", "data", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// Deleting is the provisioner's part.
	await(t, c, "", "pvc-1", hasPhase(corev1.VolumeReleased))
}

func TestClassOfClaims(t *testing.T) {
	c := testcluster.New(t).Admin()
	create(t, c, claim("unknown", "nowhere", "1Gi"))
	awaitEvent(t, c, "unknown", "ProvisioningFailed", `storageclass.storage.k8s.io "nowhere" not found`)
	mode := storagev1.VolumeBindingWaitForFirstConsumer
	create(t, c, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "later"}, Provisioner: volumes.NoProvisioner, VolumeBindingMode: &mode})
	create(t, c, volume("free", "later", "1Gi"))
	await(t, c, "", "free", hasPhase(corev1.VolumeAvailable))
	create(t, c, claim("waits", "later", "1Gi"))
	awaitEvent(t, c, "waits", "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
	if pv, err := client.Of[*corev1.PersistentVolume](c).Get(t.Context(), "", "free"); err != nil || pv.Spec.ClaimRef != nil {
		t.Errorf("a volume was bound without a consumer: %+v, %v", pv.Spec.ClaimRef, err)
	}
}
