// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package attachdetach_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/testcluster"
)

const (
	limit  = 10 * time.Second
	unique = corev1.UniqueVolumeName("kubernetes.io/csi/disk.example.com^vol-1")
)

func create[T kinds.Object](t *testing.T, c *client.Client, obj T) T {
	t.Helper()
	made, err := client.Of[T](c).Create(t.Context(), obj)
	if err != nil {
		t.Fatalf("create %s: %v", obj.GetName(), err)
	}
	return made
}

func setStatus[T kinds.Object](t *testing.T, c *client.Client, namespace, name string, change func(T)) {
	t.Helper()
	for {
		obj, err := client.Of[T](c).Get(t.Context(), namespace, name)
		if err != nil {
			t.Fatal(err)
		}
		next := obj.DeepCopyObject().(T)
		change(next)
		_, err = client.Of[T](c).UpdateStatus(t.Context(), next)
		if err == nil {
			return
		}
		if !apierrors.IsConflict(err) { // the controllers write as well
			t.Fatal(err)
		}
	}
}

func node(name string) *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }

func pod(name, on string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PodSpec{
			NodeName: on, Containers: []corev1.Container{{Name: "c", Image: "i"}},
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
			}}},
		},
	}
}

// bound makes a claim and a volume of a CSI driver that are bound to each other.
func bound(t *testing.T, c *client.Client) {
	t.Helper()
	class, one := "", corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	create(t, c, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{
		AccessModes: modes, Capacity: one,
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "disk.example.com", VolumeHandle: "vol-1"}},
	}})
	create(t, c, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: &class, AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: one},
	}})
	testcluster.Await(t, c, "default", limit, func(all []*corev1.PersistentVolumeClaim) bool {
		return len(all) == 1 && all[0].Status.Phase == corev1.ClaimBound
	})
	testcluster.Await(t, c, "default", limit, func(all []*corev1.ServiceAccount) bool { return len(all) > 0 })
}

func attachments(t *testing.T, c *client.Client, ok func([]*storagev1.VolumeAttachment) bool) []*storagev1.VolumeAttachment {
	t.Helper()
	return testcluster.Await(t, c, "", limit, ok)
}

func awaitNode(t *testing.T, c *client.Client, name string, ok func(*corev1.Node) bool) {
	t.Helper()
	testcluster.Await(t, c, "", limit, func(all []*corev1.Node) bool {
		for _, n := range all {
			if n.Name == name && ok(n) {
				return true
			}
		}
		return false
	})
}

func remove(t *testing.T, c *client.Client, name string) {
	t.Helper()
	zero := int64(0)
	if err := client.Of[*corev1.Pod](c).Delete(t.Context(), "default", name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
}

// TestVolumeMovesBetweenNodes plays the driver's attacher and the kubelets.
func TestVolumeMovesBetweenNodes(t *testing.T) {
	c := testcluster.New(t).Admin()
	bound(t, c)
	create(t, c, node("n1"))
	create(t, c, node("n2"))
	foreign := "not-there"
	create(t, c, &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "foreign"}, Spec: storagev1.VolumeAttachmentSpec{
		Attacher: "else.example.com", NodeName: "n1", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &foreign},
	}})
	create(t, c, pod("first", "n1"))
	ours := func(all []*storagev1.VolumeAttachment) *storagev1.VolumeAttachment {
		for _, a := range all {
			if a.Spec.Attacher == "disk.example.com" {
				return a
			}
		}
		return nil
	}
	all := attachments(t, c, func(all []*storagev1.VolumeAttachment) bool { return ours(all) != nil })
	a := ours(all)
	if a.Spec.NodeName != "n1" || *a.Spec.Source.PersistentVolumeName != "pv" || !strings.HasPrefix(a.Name, "csi-") {
		t.Fatalf("attachment = %+v", a)
	}
	setStatus(t, c, "", a.Name, func(a *storagev1.VolumeAttachment) { a.Status.Attached = true })
	awaitNode(t, c, "n1", func(n *corev1.Node) bool {
		return len(n.Status.VolumesAttached) == 1 && n.Status.VolumesAttached[0].Name == unique
	})
	setStatus(t, c, "", "n1", func(n *corev1.Node) {
		n.Status.VolumesInUse = []corev1.UniqueVolumeName{unique}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	})

	// The second node has to wait for the first.
	create(t, c, pod("second", "n2"))
	testcluster.Await(t, c, "default", limit, func(all []*corev1.Event) bool {
		for _, e := range all {
			if e.Reason == "FailedAttachVolume" && strings.HasPrefix(e.Message, `Multi-Attach error for volume "pv"`) {
				return true
			}
		}
		return false
	})
	remove(t, c, "first")
	testcluster.Await(t, c, "default", limit, func(all []*corev1.Pod) bool { return len(all) == 1 })
	if _, err := client.Of[*storagev1.VolumeAttachment](c).Get(t.Context(), "", a.Name); err != nil {
		t.Fatalf("volume was detached while it was mounted: %v", err)
	}
	setStatus(t, c, "", "n1", func(n *corev1.Node) { n.Status.VolumesInUse = nil })
	attachments(t, c, func(all []*storagev1.VolumeAttachment) bool {
		a := ours(all)
		return len(all) == 2 && a != nil && a.Spec.NodeName == "n2"
	})
	awaitNode(t, c, "n1", func(n *corev1.Node) bool { return len(n.Status.VolumesAttached) == 0 })
}

// TestNodeOutOfServiceLosesItsVolumes is KEP-2268.
func TestNodeOutOfServiceLosesItsVolumes(t *testing.T) {
	c := testcluster.New(t).Admin()
	bound(t, c)
	create(t, c, node("n1"))
	create(t, c, pod("first", "n1"))
	all := attachments(t, c, func(all []*storagev1.VolumeAttachment) bool { return len(all) == 1 })
	setStatus(t, c, "", all[0].Name, func(a *storagev1.VolumeAttachment) { a.Status.Attached = true })
	setStatus(t, c, "", "n1", func(n *corev1.Node) { n.Status.VolumesInUse = []corev1.UniqueVolumeName{unique} })
	remove(t, c, "first")
	taint := []byte(`{"spec":{"taints":[{"key":"node.kubernetes.io/out-of-service","value":"nodeshutdown","effect":"NoExecute"}]}}`)
	if _, err := client.Of[*corev1.Node](c).Patch(t.Context(), "", "n1", types.StrategicMergePatchType, taint); err != nil {
		t.Fatal(err)
	}
	attachments(t, c, func(all []*storagev1.VolumeAttachment) bool { return len(all) == 0 })
}

func TestDriversThatDontAttach(t *testing.T) {
	c := testcluster.New(t).Admin()
	no := false
	create(t, c, &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "disk.example.com"}, Spec: storagev1.CSIDriverSpec{AttachRequired: &no}})
	bound(t, c)
	create(t, c, node("n1"))
	create(t, c, pod("first", "n1"))
	// The driver's change of mind shows that the pod was looked at before.
	if err := client.Of[*storagev1.CSIDriver](c).Delete(t.Context(), "", "disk.example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	attachments(t, c, func(all []*storagev1.VolumeAttachment) bool { return len(all) == 1 })
}
