// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"context"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

// terminate deletes the objects of a definition that is being deleted, and lets it go when none is left.
func (c *Controller) terminate(ctx context.Context, crd *apiextensionsv1.CustomResourceDefinition) error {
	c.mu.RLock()
	s := c.served[crd.Name]
	c.mu.RUnlock()
	if s == nil && apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.Established) {
		// This server started while the definition was on its way out: it must serve the objects to delete them.
		if err := c.serve(ctx, crd); err != nil {
			return err
		}
		c.mu.RLock()
		s = c.served[crd.Name]
		c.mu.RUnlock()
	}
	if s != nil && !s.terminating.Swap(true) {
		c.publish(crd.Spec.Group)
	}
	if !slices.Contains(crd.Finalizers, finalizer) {
		return nil
	}
	next := crd.DeepCopy()
	apihelpers.SetCRDCondition(next, condition(apiextensionsv1.Terminating, apiextensionsv1.ConditionTrue, "InstanceDeletionInProgress", "CustomResource deletion is in progress"))
	if !apihelpers.IsCRDConditionEquivalent(apihelpers.FindCRDCondition(crd, apiextensionsv1.Terminating), apihelpers.FindCRDCondition(next, apiextensionsv1.Terminating)) {
		stored, err := c.crds().UpdateStatus(ctx, next)
		if err != nil {
			return ignoreGone(err)
		}
		next = stored.DeepCopy()
	}
	done := condition(apiextensionsv1.Terminating, apiextensionsv1.ConditionFalse, "NeverEstablished", "resource was never established")
	if s != nil {
		left, err := c.deleteInstances(ctx, s)
		if err != nil {
			return err
		}
		if left > 0 {
			return reconcile.After(settleDelay)
		}
		done = condition(apiextensionsv1.Terminating, apiextensionsv1.ConditionFalse, "InstanceDeletionCompleted", "removed all instances")
	}
	apihelpers.SetCRDCondition(next, done)
	stored, err := c.crds().UpdateStatus(ctx, next)
	if err != nil {
		return ignoreGone(err)
	}
	next = stored.DeepCopy()
	next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == finalizer })
	if _, err := c.crds().Update(ctx, next); err != nil {
		return ignoreGone(err)
	}
	return nil
}

// deleteInstances asks for the deletion of all objects that are not being deleted yet, and returns how many there still are.
func (c *Controller) deleteInstances(ctx context.Context, s *served) (int, error) {
	// At the version that is stored, as upstream, if that is served: who converts may be gone already.
	gvr := s.kind.Served[0].GroupVersion().WithResource(s.names.Plural)
	if stored := s.kind.Storage.GroupVersion(); s.kind.Version(stored) != nil {
		gvr.Version = stored.Version
	}
	r := client.At(c.cfg.Client, gvr, func() *unstructured.Unstructured { return &unstructured.Unstructured{} })
	list, err := r.List(ctx, "", metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	left := 0
	for _, obj := range list.Items {
		if obj.GetDeletionTimestamp() == nil {
			uid := obj.GetUID()
			err := r.Delete(ctx, obj.GetNamespace(), obj.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
			if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
				continue
			}
			if err != nil {
				return 0, err
			}
		}
		left++
	}
	if left == 0 {
		return 0, nil
	}
	// Most objects are gone by now: only those with finalizers stay.
	list, err = r.List(ctx, "", metav1.ListOptions{Limit: 1})
	return len(list.Items), err
}
