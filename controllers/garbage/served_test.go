// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package garbage

import (
	"context"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/garbage/graph"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/reconcile"
)

// shelf is a server with some objects of one resource, which it may not serve.
type shelf struct {
	client.Backend
	served bool
	uid    types.UID // of the object, if there is one
}

func (s *shelf) Do(_ context.Context, req *client.Request) (*client.Result, error) {
	absent := apierrors.NewNotFound(req.Resource.GroupResource(), req.Name)
	if !s.served {
		return nil, absent
	}
	boat := &unstructured.Unstructured{}
	boat.SetName("cog")
	boat.SetUID(s.uid)
	switch {
	case req.Verb == client.List && s.uid == "":
		return &client.Result{}, nil
	case req.Verb == client.List:
		return &client.Result{Items: []runtime.Object{boat}}, nil
	case s.uid == "":
		return nil, absent
	}
	return &client.Result{Object: boat}, nil
}

// TestAbsentResourceIsNoAbsentObject asks for an object of a resource that comes and goes.
func TestAbsentResourceIsNoAbsentObject(t *testing.T) {
	gvk := schema.GroupVersionKind{Group: "sea.example", Version: "v1", Kind: "Boat"}
	for _, test := range []struct {
		name         string
		server       shelf
		found, fails bool
	}{
		{"there", shelf{served: true, uid: "a"}, true, false},
		{"another one", shelf{served: true, uid: "b"}, false, false},
		{"absent", shelf{served: true}, false, false},
		{"resource absent", shelf{}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &controller{Scope: reconcile.Scope{Client: client.New(&test.server, catalog.New())}}
			r := c.defined(gvk, "boats", true)
			c.resources = map[schema.GroupKind]*resource{gvk.GroupKind(): r}
			id := graph.Identity{APIVersion: "sea.example/v1", Kind: "Boat", Namespace: "default", Name: "cog", UID: "a"}
			obj, _, err := c.fresh(t.Context(), id)
			if (obj != nil) != test.found || (err != nil) != test.fails {
				t.Errorf("fresh = %v, %v; want an object: %v, an error: %v", obj, err, test.found, test.fails)
			}
			if apierrors.IsNotFound(err) {
				t.Errorf("fresh fails with %v, which tells of an absent object", err)
			}
			named := &unstructured.Unstructured{}
			named.SetName("cog")
			named.SetUID("a")
			err = c.remove(t.Context(), r, named, metav1.DeletePropagationBackground)
			if (err != nil) != test.fails {
				t.Errorf("remove = %v, want an error: %v", err, test.fails)
			}
		})
	}
}
