// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package vacprotection keeps a VolumeAttributesClass that is being deleted until no claim and no volume names it.
package vacprotection

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

const finalizer = "kubernetes.io/vac-protection"

type controller struct {
	reconcile.Scope
	classes *client.Informer[*storagev1.VolumeAttributesClass]
	claims  *client.Informer[*corev1.PersistentVolumeClaim]
	volumes *client.Informer[*corev1.PersistentVolume]
	api     client.Resource[*storagev1.VolumeAttributesClass]
	claimed client.Resource[*corev1.PersistentVolumeClaim]
}

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope:   scope,
		classes: client.InformerFor[*storagev1.VolumeAttributesClass](scope.Informers),
		claims:  client.InformerFor[*corev1.PersistentVolumeClaim](scope.Informers),
		volumes: client.InformerFor[*corev1.PersistentVolume](scope.Informers),
		api:     client.Of[*storagev1.VolumeAttributesClass](scope.Client),
		claimed: client.Of[*corev1.PersistentVolumeClaim](scope.Client),
	}
	loop := reconcile.New(reconcile.Config{
		Name: "volumeattributesclass-protection-controller", Log: scope.Log, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	reconcile.Self(loop, c.classes)
	wake := func(before, after []string) {
		for _, name := range before {
			if !slices.Contains(after, name) {
				loop.Enqueue(reconcile.Key{Name: name})
			}
		}
	}
	c.claims.Handle(client.Handler[*corev1.PersistentVolumeClaim]{
		Update: func(old, claim *corev1.PersistentVolumeClaim) { wake(namedByClaim(old), namedByClaim(claim)) },
		Delete: func(claim *corev1.PersistentVolumeClaim) { wake(namedByClaim(claim), nil) },
	})
	c.volumes.Handle(client.Handler[*corev1.PersistentVolume]{
		Update: func(old, pv *corev1.PersistentVolume) { wake(namedByVolume(old), namedByVolume(pv)) },
		Delete: func(pv *corev1.PersistentVolume) { wake(namedByVolume(pv), nil) },
	})
	return loop
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	class, ok := c.classes.Get("", key.Name)
	if !ok {
		return nil
	}
	has := slices.Contains(class.Finalizers, finalizer)
	next := class.DeepCopy()
	switch {
	case class.DeletionTimestamp == nil && !has:
		// Admission adds it to new classes; this one was stored by somebody else.
		next.Finalizers = append(next.Finalizers, finalizer)
	case class.DeletionTimestamp != nil && has:
		used, err := c.used(ctx, class.Name)
		if used || err != nil {
			return err
		}
		next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == finalizer })
	default:
		return nil
	}
	if _, err := c.api.Update(ctx, next); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("finalizer of volume attributes class %s: %w", class.Name, err)
	}
	return nil
}

// used looks at the informers first and, if they know of no user, asks the API for claims: one may have been made faster
// than the informer saw it. A volume gets a class only through a claim.
func (c *controller) used(ctx context.Context, name string) (bool, error) {
	for _, claim := range c.claims.List("") {
		if slices.Contains(namedByClaim(claim), name) {
			return true, nil
		}
	}
	for _, pv := range c.volumes.List("") {
		if slices.Contains(namedByVolume(pv), name) {
			return true, nil
		}
	}
	live, err := c.claimed.List(ctx, "", metav1.ListOptions{})
	if err != nil {
		return false, fmt.Errorf("claims that name volume attributes class %s: %w", name, err)
	}
	for _, claim := range live.Items {
		if slices.Contains(namedByClaim(claim), name) {
			return true, reconcile.Unseen()
		}
	}
	return false, nil
}

// namedByClaim lists the classes that a claim wants, has, or is on the way to.
func namedByClaim(claim *corev1.PersistentVolumeClaim) []string {
	var out []string
	for _, name := range []*string{claim.Spec.VolumeAttributesClassName, claim.Status.CurrentVolumeAttributesClassName} {
		if name != nil && *name != "" {
			out = append(out, *name)
		}
	}
	if s := claim.Status.ModifyVolumeStatus; s != nil && s.TargetVolumeAttributesClassName != "" {
		out = append(out, s.TargetVolumeAttributesClassName)
	}
	return out
}

func namedByVolume(pv *corev1.PersistentVolume) []string {
	if name := pv.Spec.VolumeAttributesClassName; name != nil && *name != "" {
		return []string{*name}
	}
	return nil
}
