// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/cache"
)

// Reader gives admission plugins, authorizers and the like the cluster's state from the watch cache.
func (e *Engine) Reader() admission.Reader { return reader{e} }

type reader struct{ engine *Engine }

var _ admission.Reader = reader{}

func (r reader) bound(gr schema.GroupResource) (*bound, error) {
	e := r.engine
	e.mu.Lock()
	b := e.bound[gr]
	e.mu.Unlock()
	if b == nil || b.cache == nil {
		return nil, fmt.Errorf("no stored resource %s", gr)
	}
	return b, nil
}

// Get implements admission.Reader.
func (r reader) Get(_ context.Context, gr schema.GroupResource, namespace, name string) (kinds.Object, error) {
	b, err := r.bound(gr)
	if err != nil {
		return nil, err
	}
	entry, _, err := b.cache.Get(b.key(namespace, name))
	return found(entry, err)
}

// GetFresh implements admission.Reader.
func (r reader) GetFresh(ctx context.Context, gr schema.GroupResource, namespace, name string) (kinds.Object, error) {
	b, err := r.bound(gr)
	if err != nil {
		return nil, err
	}
	return found(r.engine.read(ctx, b, b.key(namespace, name), ""))
}

func found(entry *cache.Entry, err error) (kinds.Object, error) {
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil // The contract: absence is no error.
	}
	if err != nil {
		return nil, err
	}
	return entry.Object()
}

// List implements admission.Reader.
func (r reader) List(_ context.Context, gr schema.GroupResource, namespace string) ([]kinds.Object, error) {
	b, err := r.bound(gr)
	if err != nil {
		return nil, err
	}
	snapshot, err := b.cache.Snapshot()
	if err != nil {
		return nil, err
	}
	prefix := b.prefix
	if b.Kind.Namespaced && namespace != "" {
		prefix += namespace + "/"
	}
	var out []kinds.Object
	for entry := range snapshot.All(prefix, "") {
		obj, err := entry.Object()
		if err != nil {
			return nil, err
		}
		out = append(out, obj)
	}
	return out, nil
}

// Version implements admission.Reader.
func (r reader) Version(gr schema.GroupResource) (uint64, error) {
	b, err := r.bound(gr)
	if err != nil {
		return 0, err
	}
	return b.cache.Version()
}

// components answers componentstatuses: the store is what this server can judge; scheduler and controllers show their health in leases.
func (e *Engine) components(ctx context.Context, c *Call) (*Result, error) {
	status := corev1.ComponentCondition{Type: corev1.ComponentHealthy, Status: corev1.ConditionTrue, Message: "ok"}
	if _, err := e.store.Revision(ctx); err != nil {
		status.Status, status.Message, status.Error = corev1.ConditionFalse, "", err.Error()
	}
	one := &corev1.ComponentStatus{ObjectMeta: metav1.ObjectMeta{Name: "etcd-0"}, Conditions: []corev1.ComponentCondition{status}}
	if c.Verb == client.List {
		_, sel, err := c.listed(false)
		if err != nil {
			return nil, err
		}
		list := &corev1.ComponentStatusList{Items: []corev1.ComponentStatus{}}
		if sel.labels.Matches(labels.Set{}) && sel.fields.Matches(fields.Set{"metadata.name": one.Name, "metadata.namespace": ""}) {
			list.Items = append(list.Items, *one)
		}
		list.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "ComponentStatusList"})
		return &Result{Code: http.StatusOK, Object: list}, nil
	}
	if c.Name != one.Name {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: c.Target.Kind.Singular}, c.Name) // As upstream names it.
	}
	one.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "ComponentStatus"})
	return &Result{Code: http.StatusOK, Object: one}, nil
}
