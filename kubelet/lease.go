// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
)

// leaseNamespace holds the leases by which nodes show that they live.
const leaseNamespace = "kube-node-lease"

// renewLease keeps the node's lease fresh, four times within its duration.
func (k *Kubelet) renewLease(ctx context.Context) {
	duration := time.Duration(k.config.Settings.NodeLeaseDurationSeconds) * time.Second
	var last *coordinationv1.Lease
	first := true
	for ctx.Err() == nil {
		wait := duration / 4
		lease, err := k.renewOnce(ctx, last)
		last = lease
		if err != nil {
			if ctx.Err() == nil && !first {
				k.log.Warn("node lease can't be renewed", "err", err)
			}
			wait = min(wait, 200*time.Millisecond)
			if time.Since(k.started) > time.Minute {
				wait = min(duration/4, 2*time.Second)
			}
		} else if first && k.node() != nil {
			first = false
			if k.config.OnRegistered != nil {
				k.config.OnRegistered()
			}
		} else if first {
			wait = 50 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// renewOnce renews the lease that is known, or reads or makes it.
func (k *Kubelet) renewOnce(ctx context.Context, last *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	leases := client.Of[*coordinationv1.Lease](k.client)
	if last == nil {
		found, err := leases.Get(ctx, leaseNamespace, k.config.NodeName)
		if apierrors.IsNotFound(err) {
			fresh := &coordinationv1.Lease{}
			fresh.Name, fresh.Namespace = k.config.NodeName, leaseNamespace
			return leases.Create(ctx, k.stampLease(fresh))
		}
		if err != nil {
			return nil, err
		}
		last = found
	} else if time.Since(last.Spec.RenewTime.Time) < time.Second {
		return last, nil
	}
	return leases.Update(ctx, k.stampLease(last.DeepCopy()))
}

func (k *Kubelet) stampLease(l *coordinationv1.Lease) *coordinationv1.Lease {
	now := metav1.NewMicroTime(time.Now())
	seconds := k.config.Settings.NodeLeaseDurationSeconds
	name := k.config.NodeName
	l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds, l.Spec.RenewTime = &name, &seconds, &now
	if n := k.node(); n != nil && len(l.OwnerReferences) == 0 {
		l.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}}
	}
	return l
}
