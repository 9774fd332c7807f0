// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package servicecidr marks ranges of Service addresses as ready, and lets one go only when no address in use would be
// left without a range.
package servicecidr

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

const (
	finalizer = "networking.k8s.io/service-cidr-finalizer"
	allocator = "ipallocator.k8s.io" // manages the addresses that Services have
	// grace is how long a range that is free is kept: an API server that has not heard of its deletion may yet take an address.
	grace = 10 * time.Second
)

type controller struct {
	ranges    *client.Informer[*networkingv1.ServiceCIDR]
	addresses *client.Informer[*networkingv1.IPAddress]
	api       client.Resource[*networkingv1.ServiceCIDR]
}

// New makes the loop; its keys are ranges.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		ranges: client.InformerFor[*networkingv1.ServiceCIDR](scope.Informers), addresses: client.InformerFor[*networkingv1.IPAddress](scope.Informers),
		api: client.Of[*networkingv1.ServiceCIDR](scope.Client),
	}
	loop := reconcile.New(reconcile.Config{
		Name: "service-cidr-controller", Log: scope.Log, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	// Whether one range may go depends on the others.
	reconcile.On(loop, c.ranges, func(changed *networkingv1.ServiceCIDR) []reconcile.Key {
		keys := []reconcile.Key{reconcile.KeyOf(changed)}
		for r := range c.ranges.All() {
			if overlap(r, changed) {
				keys = append(keys, reconcile.KeyOf(r))
			}
		}
		return keys
	})
	reconcile.On(loop, c.addresses, func(a *networkingv1.IPAddress) []reconcile.Key {
		ip, err := netip.ParseAddr(a.Name)
		if err != nil || a.Labels[networkingv1.LabelManagedBy] != allocator {
			return nil
		}
		var keys []reconcile.Key
		for _, r := range c.holding(ip) {
			if r.DeletionTimestamp != nil {
				keys = append(keys, reconcile.KeyOf(r))
			}
		}
		return keys
	})
	return loop
}

func prefixes(r *networkingv1.ServiceCIDR) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range r.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

func overlap(a, b *networkingv1.ServiceCIDR) bool {
	return slices.ContainsFunc(prefixes(a), func(p netip.Prefix) bool { return slices.ContainsFunc(prefixes(b), p.Overlaps) })
}

// holding returns the ranges that contain an address.
func (c *controller) holding(ip netip.Addr) []*networkingv1.ServiceCIDR {
	var out []*networkingv1.ServiceCIDR
	for r := range c.ranges.All() {
		if slices.ContainsFunc(prefixes(r), func(p netip.Prefix) bool { return p.Contains(ip) }) {
			out = append(out, r)
		}
	}
	return out
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	r, ok := c.ranges.Get("", key.Name)
	if !ok {
		return nil
	}
	held := slices.Contains(r.Finalizers, finalizer)
	switch {
	case r.DeletionTimestamp != nil && !held:
		return nil
	case r.DeletionTimestamp != nil && !c.free(r):
		return c.report(ctx, r, metav1.Condition{
			Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionFalse, Reason: networkingv1.ServiceCIDRReasonTerminating,
			Message: "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
		})
	case r.DeletionTimestamp != nil:
		if left := time.Until(r.DeletionTimestamp.Add(grace)); left > 0 {
			return reconcile.After(left)
		}
		next := r.DeepCopy()
		next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == finalizer })
		_, err := c.api.Update(ctx, next)
		return client.IgnoreNotFound(err)
	}
	if !held {
		next := r.DeepCopy()
		next.Finalizers = append(next.Finalizers, finalizer)
		updated, err := c.api.Update(ctx, next)
		if err != nil {
			return client.IgnoreNotFound(err)
		}
		r = updated
	}
	return c.report(ctx, r, metav1.Condition{
		Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue, Message: "Kubernetes Service CIDR is ready",
	})
}

// free reports whether no address in use would lose its last range.
func (c *controller) free(r *networkingv1.ServiceCIDR) bool {
	covered := true
	for _, own := range prefixes(r) {
		found := false
		for other := range c.ranges.All() {
			found = found || (other.Name != r.Name && slices.ContainsFunc(prefixes(other), func(p netip.Prefix) bool {
				return p.Bits() <= own.Bits() && p.Contains(own.Addr())
			}))
		}
		covered = covered && found
	}
	if covered {
		return true
	}
	for a := range c.addresses.All() {
		ip, err := netip.ParseAddr(a.Name)
		if err != nil || a.Labels[networkingv1.LabelManagedBy] != allocator {
			continue
		}
		if holding := c.holding(ip); len(holding) == 1 && holding[0].Name == r.Name {
			return false
		}
	}
	return true
}

func (c *controller) report(ctx context.Context, r *networkingv1.ServiceCIDR, want metav1.Condition) error {
	have := apimeta.FindStatusCondition(r.Status.Conditions, want.Type)
	if have != nil && have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message {
		return nil
	}
	next := r.DeepCopy()
	apimeta.SetStatusCondition(&next.Status.Conditions, want)
	if _, err := c.api.UpdateStatus(ctx, next); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("status of range %s: %w", r.Name, err)
	}
	return nil
}
