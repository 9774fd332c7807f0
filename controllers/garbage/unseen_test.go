// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package garbage_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/controllers/garbage"
	"kogge.dev/kogge/testcluster"
)

// fog is a Backend that shows no boats to an informer until it is lifted.
type fog struct {
	client.Backend
	lifted atomic.Bool
}

func (f *fog) Do(ctx context.Context, req *client.Request) (*client.Result, error) {
	if req.Verb == client.List && req.Metadata && req.Resource.Resource == "boats" && !f.lifted.Load() {
		return nil, apierrors.NewServiceUnavailable("fog")
	}
	return f.Backend.Do(ctx, req)
}

func (f *fog) Watch(ctx context.Context, req *client.Request) (client.Stream, error) {
	if req.Resource.Resource == "boats" && !f.lifted.Load() {
		return nil, apierrors.NewServiceUnavailable("fog")
	}
	return f.Backend.Watch(ctx, req)
}

// TestOwnersThatWereNeverSeen has an owner go between the loop's look at it and the first list of its kind: no event tells of it.
func TestOwnersThatWereNeverSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testcluster.New(t, testcluster.Config{Without: control.Components{Controllers: true, Scheduler: true}}).Admin()
		h := &harbour{
			world: &world{T: t, c: c, maps: client.Of[*corev1.ConfigMap](c)}, definitions: client.Of[*apiextensionsv1.CustomResourceDefinition](c),
		}
		view := &fog{Backend: c.Backend()}
		own := client.New(view, c.Catalog())
		testcluster.RunLoop(t, own, own, garbage.New)
		synctest.Wait() // the loop works
		h.define("v1")
		h.load("cargo", h.launch("v1", "cog"))
		time.Sleep(time.Minute)
		h.await("cargo")
		h.sink("v1", "cog")
		view.lifted.Store(true)
		h.await()
	})
}
