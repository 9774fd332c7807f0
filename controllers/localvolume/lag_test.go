// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package localvolume_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/controllers/localvolume"
	"kogge.dev/kogge/controllers/localvolume/nodeside"
	"kogge.dev/kogge/rules/volumes"
	"kogge.dev/kogge/testcluster"
)

// TestNodesAreSeenLate has the loop hear of nodes long after of claims and volumes: a node that offers is not refused, and a volume that its node
// holds is not let go of.
func TestNodesAreSeenLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testcluster.New(t, testcluster.Config{Without: control.Components{Controllers: true, Scheduler: true}}).Admin()
		if err := localvolume.EnsureClass(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		nodes, claims, pvs := client.Of[*corev1.Node](c), client.Of[*corev1.PersistentVolumeClaim](c), client.Of[*corev1.PersistentVolume](c)
		node, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
		if err != nil {
			t.Fatal(err)
		}
		lag := &testcluster.Lag{Backend: c.Backend(), Resource: "nodes"}
		own := client.New(lag, c.Catalog())
		testcluster.RunLoop(t, own, own, localvolume.New)
		synctest.Wait()
		lag.Events(time.Hour)
		annotate := func(key, value string) {
			t.Helper()
			next := node.DeepCopy()
			metav1.SetMetaDataAnnotation(&next.ObjectMeta, key, value)
			if node, err = nodes.Update(t.Context(), next); err != nil {
				t.Fatal(err)
			}
		}
		annotate(nodeside.RootAnnotation, "/volumes")
		wanted := claim("data")
		wanted.Annotations = map[string]string{volumes.SelectedNode: "n1", volumes.Provisioner: nodeside.Provisioner}
		made, err := claims.Create(t.Context(), wanted)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		name := "pvc-" + string(made.UID)
		pv, err := pvs.Get(t.Context(), "", name)
		if err != nil {
			t.Fatalf("the claim got no volume: %v", err)
		}
		annotate(nodeside.HeldAnnotation, name)
		released := pv.DeepCopy()
		released.Status.Phase = corev1.VolumeReleased
		if _, err := pvs.UpdateStatus(t.Context(), released); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if pv, err = pvs.Get(t.Context(), "", name); err != nil || pv.DeletionTimestamp != nil {
			t.Errorf("the volume was let go of while its node holds it: %v, %v", pv, err)
		}
		annotate(nodeside.HeldAnnotation, "")
		time.Sleep(5 * time.Hour)
		if pv, err = pvs.Get(t.Context(), "", name); err != nil || pv.DeletionTimestamp == nil {
			t.Errorf("the volume stays after its folder went: %v, %v", pv, err)
		}
	})
}

// TestHoldingIsNotSeen has a node hold a released volume for a moment of which no view tells.
func TestHoldingIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testcluster.New(t, testcluster.Config{Without: control.Components{Controllers: true, Scheduler: true}}).Admin()
		if err := localvolume.EnsureClass(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		nodes, pvs := client.Of[*corev1.Node](c), client.Of[*corev1.PersistentVolume](c)
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Annotations: map[string]string{nodeside.RootAnnotation: "/volumes"}}}
		if _, err := nodes.Create(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		lag := &testcluster.Lag{Backend: c.Backend(), Resource: "nodes"}
		testcluster.RunLoop(t, client.New(lag, c.Catalog()), c, localvolume.New)
		wanted := claim("data")
		wanted.Annotations = map[string]string{volumes.SelectedNode: "n1", volumes.Provisioner: nodeside.Provisioner}
		made, err := client.Of[*corev1.PersistentVolumeClaim](c).Create(t.Context(), wanted)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		name := "pvc-" + string(made.UID)
		hold := func(what string) {
			t.Helper()
			body := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, nodeside.HeldAnnotation, what)
			if _, err := nodes.Patch(t.Context(), "", "n1", types.MergePatchType, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		lag.Hide(true)
		hold(name)
		pv, err := pvs.Get(t.Context(), "", name)
		if err != nil {
			t.Fatalf("the claim got no volume: %v", err)
		}
		released := pv.DeepCopy()
		released.Status.Phase = corev1.VolumeReleased
		if _, err := pvs.UpdateStatus(t.Context(), released); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		hold("")
		lag.Hide(false)
		time.Sleep(time.Minute)
		if pv, err = pvs.Get(t.Context(), "", name); err != nil || pv.DeletionTimestamp == nil {
			t.Errorf("the volume stays after its folder went: %v, %v", pv, err)
		}
	})
}

// TestClassIsSeenLate has the loop hear of a class after of the claim that names it.
func TestClassIsSeenLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testcluster.New(t, testcluster.Config{Without: control.Components{Controllers: true, Scheduler: true}}).Admin()
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Annotations: map[string]string{nodeside.RootAnnotation: "/volumes"}}}
		if _, err := client.Of[*corev1.Node](c).Create(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		lag := &testcluster.Lag{Backend: c.Backend(), Resource: "storageclasses"}
		own := client.New(lag, c.Catalog())
		testcluster.RunLoop(t, own, own, localvolume.New)
		synctest.Wait()
		lag.Events(time.Minute)
		at, class := storagev1.VolumeBindingWaitForFirstConsumer, "late"
		if _, err := client.Of[*storagev1.StorageClass](c).Create(t.Context(), &storagev1.StorageClass{
			ObjectMeta: metav1.ObjectMeta{Name: class}, Provisioner: nodeside.Provisioner, VolumeBindingMode: &at,
		}); err != nil {
			t.Fatal(err)
		}
		wanted := claim("data")
		wanted.Spec.StorageClassName = &class
		wanted.Annotations = map[string]string{volumes.SelectedNode: "n1", volumes.Provisioner: nodeside.Provisioner}
		made, err := client.Of[*corev1.PersistentVolumeClaim](c).Create(t.Context(), wanted)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if _, err := client.Of[*corev1.PersistentVolume](c).Get(t.Context(), "", "pvc-"+string(made.UID)); err != nil {
			t.Errorf("the claim got no volume: %v", err)
		}
	})
}
