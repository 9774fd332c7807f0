// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package garbage_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/controllers/garbage"
	"kogge.dev/kogge/testcluster"
)

// TestOwnersThatWereNeverSeen has an owner go between the loop's look at it and the first list of its kind: no event tells of it.
func TestOwnersThatWereNeverSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testcluster.New(t, testcluster.Config{Without: control.Components{Controllers: true, Scheduler: true}}).Admin()
		h := &harbour{
			world: &world{T: t, c: c, maps: client.Of[*corev1.ConfigMap](c)}, definitions: client.Of[*apiextensionsv1.CustomResourceDefinition](c),
		}
		view := &testcluster.Lag{Backend: c.Backend(), Resource: "boats"}
		view.Hide(true)
		own := client.New(view, c.Catalog()) // The loop follows boats by the client that it reads them with.
		testcluster.RunLoop(t, own, own, garbage.New)
		synctest.Wait() // the loop works
		h.define("v1")
		h.load("cargo", h.launch("v1", "cog"))
		time.Sleep(time.Minute)
		h.await("cargo")
		h.sink("v1", "cog")
		view.Hide(false)
		h.await()
	})
}
