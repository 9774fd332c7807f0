// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package devicetainteviction deletes pods that use devices with NoExecute taints which their claims don't tolerate, or not any
// longer (KEP-5055). Taints come with resource slices; DeviceTaintRules are off in v1.36.
package devicetainteviction

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

// Indexes of pods and of claims.
const (
	podsByClaim  = "pods by claim of devices"
	claimsByPool = "claims by pool of devices"
)

type controller struct {
	reconcile.Scope
	pods   *client.Informer[*corev1.Pod]
	claims *client.Informer[*resourcev1.ResourceClaim]
	slices *client.Informer[*resourcev1.ResourceSlice]
	api    client.Resource[*corev1.Pod]
}

// New makes the loop; its keys are pods.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, pods: client.InformerFor[*corev1.Pod](scope.Informers), claims: client.InformerFor[*resourcev1.ResourceClaim](scope.Informers),
		slices: client.InformerFor[*resourcev1.ResourceSlice](scope.Informers), api: client.Of[*corev1.Pod](scope.Client),
	}
	c.pods.AddIndex(podsByClaim, func(pod *corev1.Pod) []string {
		var out []string
		for i := range pod.Spec.ResourceClaims {
			if name, _, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[i]); err == nil && name != nil {
				out = append(out, pod.Namespace+"/"+*name)
			}
		}
		return out
	})
	c.claims.AddIndex(claimsByPool, func(claim *resourcev1.ResourceClaim) []string {
		var out []string
		if a := claim.Status.Allocation; a != nil {
			for i := range a.Devices.Results {
				out = append(out, poolOf(a.Devices.Results[i].Driver, a.Devices.Results[i].Pool))
			}
		}
		return out
	})
	loop := reconcile.New(reconcile.Config{
		Name: "device-taint-eviction-controller", Log: scope.Log, Workers: 8, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	look := func(pod *corev1.Pod) {
		if len(pod.Spec.ResourceClaims) > 0 {
			loop.Enqueue(reconcile.KeyOf(pod))
		}
	}
	c.pods.Handle(client.Handler[*corev1.Pod]{Add: look, Update: func(_, pod *corev1.Pod) { look(pod) }})
	reconcile.On(loop, c.claims, c.using)
	reconcile.On(loop, c.slices, func(s *resourcev1.ResourceSlice) []reconcile.Key {
		var keys []reconcile.Key
		for _, claim := range c.claims.ByIndex(claimsByPool, poolOf(s.Spec.Driver, s.Spec.Pool.Name)) {
			keys = append(keys, c.using(claim)...)
		}
		return keys
	})
	return loop
}

func poolOf(driver, pool string) string { return driver + "/" + pool }

// using lists the pods that name a claim.
func (c *controller) using(claim *resourcev1.ResourceClaim) []reconcile.Key {
	var keys []reconcile.Key
	for _, pod := range c.pods.ByIndex(podsByClaim, reconcile.KeyOf(claim).String()) {
		keys = append(keys, reconcile.KeyOf(pod))
	}
	return keys
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	pod, ok := c.pods.Get(key.Namespace, key.Name)
	if !ok || pod.DeletionTimestamp != nil || pod.Spec.NodeName == "" {
		return nil
	}
	due, limited := c.due(pod)
	if !limited {
		return nil
	}
	if left := time.Until(due); left > 0 {
		return reconcile.After(left)
	}
	c.Events.Event(pod, corev1.EventTypeNormal, "DeviceTaintManagerEviction", "Marking for deletion")
	return reconcile.Evict(ctx, c.api, pod, "DeletionByDeviceTaintManager", "Device Taint manager: deleting due to NoExecute taint")
}

// due returns when the pod has to go by the first of its devices' taints; limited is false when it may stay. Taints carry the
// time since when they hold, so that nothing has to be remembered.
func (c *controller) due(pod *corev1.Pod) (at time.Time, limited bool) {
	for i := range pod.Spec.ResourceClaims {
		name, mustOwn, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[i])
		if err != nil || name == nil {
			continue
		}
		claim, ok := c.claims.Get(pod.Namespace, *name)
		if !ok || claim.Status.Allocation == nil || mustOwn && resourceclaim.IsForPod(pod, claim, false) != nil ||
			!resourceclaim.IsReservedForPod(pod, claim, false) {
			continue
		}
		for j := range claim.Status.Allocation.Devices.Results {
			r := &claim.Status.Allocation.Devices.Results[j]
			for _, taint := range c.taints(r) {
				if t, ok := until(r.Tolerations, &taint); ok && (!limited || t.Before(at)) {
					at, limited = t, true
				}
			}
		}
	}
	return at, limited
}

// taints returns the taints of an allocated device by the newest generation of its pool.
func (c *controller) taints(r *resourcev1.DeviceRequestAllocationResult) []resourcev1.DeviceTaint {
	var out []resourcev1.DeviceTaint
	newest := int64(-1)
	for s := range c.slices.All() {
		if s.Spec.Driver != r.Driver || s.Spec.Pool.Name != r.Pool || s.Spec.Pool.Generation < newest {
			continue
		}
		for i := range s.Spec.Devices {
			if s.Spec.Devices[i].Name == r.Device {
				newest, out = s.Spec.Pool.Generation, s.Spec.Devices[i].Taints
			}
		}
	}
	return out
}

// until returns when a taint drives its device's users off; false if never.
func until(tolerations []resourcev1.DeviceToleration, taint *resourcev1.DeviceTaint) (time.Time, bool) {
	if taint.Effect != resourcev1.DeviceTaintEffectNoExecute || taint.TimeAdded == nil {
		return time.Time{}, false
	}
	at, found := taint.TimeAdded.Time, false
	for i := range tolerations {
		t := &tolerations[i]
		if t.Effect != resourcev1.DeviceTaintEffectNoExecute || !resourceclaim.ToleratesTaint(*t, *taint) {
			continue
		}
		if t.TolerationSeconds == nil {
			return time.Time{}, false
		}
		end := taint.TimeAdded.Add(time.Duration(max(0, *t.TolerationSeconds)) * time.Second)
		if !found || end.Before(at) {
			at, found = end, true
		}
	}
	return at, true
}
