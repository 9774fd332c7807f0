// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pvbinder_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/pvbinder"
	"kogge.dev/kogge/rules/volumes"
	"kogge.dev/kogge/testcluster"
)

// TestClassIsSeenLate has the loop hear of a class whose claims wait for a pod after of such a claim, and of a volume that would do.
func TestClassIsSeenLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "storageclasses", pvbinder.New)
		lag.Events(time.Minute)
		mode := storagev1.VolumeBindingWaitForFirstConsumer
		class := &storagev1.StorageClass{Provisioner: volumes.NoProvisioner, VolumeBindingMode: &mode}
		class.Name = "later"
		create(t, c, class)
		create(t, c, volume("free", "later", "1Gi"))
		time.Sleep(time.Second)
		create(t, c, claim("waits", "later", "1Gi"))
		time.Sleep(5 * time.Minute)
		pv, err := client.Of[*corev1.PersistentVolume](c).Get(t.Context(), "", "free")
		if err != nil {
			t.Fatal(err)
		}
		if pv.Spec.ClaimRef != nil {
			t.Errorf("the volume was bound without a consumer: %+v", pv.Spec.ClaimRef)
		}
	})
}
