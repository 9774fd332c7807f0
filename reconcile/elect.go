// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
)

// Times of an election, upstream's defaults.
const (
	leaseDuration = 15 * time.Second // a lease not renewed for this long may be taken
	renewDeadline = 10 * time.Second // a leader that could not renew for this long steps down
	retryPeriod   = 2 * time.Second  // between attempts to take or renew
)

// ErrLostLease is returned by Elect when the leader could not renew its lease in time.
var ErrLostLease = errors.New("leader lease lost")

// ElectConfig says who stands for which lease.
type ElectConfig struct {
	Client    *client.Client
	Log       *slog.Logger
	Namespace string
	Name      string
	// Identity is stable for one data folder, so that a restarted process takes its own lease back at once.
	Identity string
}

// Elect waits for leadership, runs lead with a context that ends when leadership does, releases the lease when ctx
// ends, and returns what lead returned. It returns ErrLostLease when the lease could not be renewed.
func Elect(ctx context.Context, config ElectConfig, lead func(context.Context) error) error {
	e := &election{ElectConfig: config, leases: client.Of[*coordinationv1.Lease](config.Client)}
	for {
		held, err := e.take(ctx)
		if held {
			break
		}
		if err != nil && ctx.Err() == nil {
			config.Log.Debug("leader lease not taken", "object", config.Name, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryPeriod):
		}
	}
	config.Log.Info("leading", "object", config.Name)
	leading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		if err := e.keep(leading); err != nil {
			stop(err)
		}
	}()
	err := lead(leading)
	lost := errors.Is(context.Cause(leading), ErrLostLease)
	stop(nil)
	<-renewed
	if lost {
		return ErrLostLease
	}
	e.release(context.WithoutCancel(ctx))
	return err
}

// election is one candidate. seen and at are the foreign lease state last observed and when, by our own clock: clocks of
// other machines are never compared with ours.
type election struct {
	ElectConfig
	leases client.Resource[*coordinationv1.Lease]
	seen   string
	at     time.Time
}

// take tries once to acquire or renew the lease.
func (e *election) take(ctx context.Context) (bool, error) {
	now := metav1.NowMicro()
	seconds := int32(leaseDuration / time.Second)
	lease, err := e.leases.Get(ctx, e.Namespace, e.Name)
	if apierrors.IsNotFound(err) {
		_, err := e.leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity: &e.Identity, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now, LeaseTransitions: new(int32),
			},
		})
		return err == nil, err
	}
	if err != nil {
		return false, err
	}
	holder := ""
	if lease.Spec.HolderIdentity != nil {
		holder = *lease.Spec.HolderIdentity
	}
	if holder != "" && holder != e.Identity && !e.expired(lease) {
		return false, nil
	}
	next := lease.DeepCopy()
	next.Spec.HolderIdentity, next.Spec.LeaseDurationSeconds, next.Spec.RenewTime = &e.Identity, &seconds, &now
	if holder != e.Identity {
		next.Spec.AcquireTime = &now
		transitions := int32(1)
		if lease.Spec.LeaseTransitions != nil {
			transitions += *lease.Spec.LeaseTransitions
		}
		next.Spec.LeaseTransitions = &transitions
	}
	_, err = e.leases.Update(ctx, next)
	return err == nil, err
}

// expired reports whether a foreign lease has stood still for its whole duration.
func (e *election) expired(lease *coordinationv1.Lease) bool {
	if lease.ResourceVersion != e.seen {
		e.seen, e.at = lease.ResourceVersion, time.Now()
	}
	duration := leaseDuration
	if lease.Spec.LeaseDurationSeconds != nil {
		duration = time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second
	}
	return time.Since(e.at) >= duration
}

// keep renews until ctx ends, or returns ErrLostLease.
func (e *election) keep(ctx context.Context) error {
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryPeriod):
		}
		attempt, cancel := context.WithTimeout(ctx, renewDeadline)
		held, err := e.take(attempt)
		cancel()
		switch {
		case held:
			last = time.Now()
		case ctx.Err() != nil:
			return nil
		case time.Since(last) > renewDeadline:
			return fmt.Errorf("%w: %s/%s: %w", ErrLostLease, e.Namespace, e.Name, err)
		}
	}
}

// release gives the lease up so that another candidate need not wait for it to expire.
func (e *election) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, retryPeriod)
	defer cancel()
	lease, err := e.leases.Get(ctx, e.Namespace, e.Name)
	if err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != e.Identity {
		return
	}
	next, now, second := lease.DeepCopy(), metav1.NowMicro(), int32(1)
	next.Spec.HolderIdentity, next.Spec.LeaseDurationSeconds, next.Spec.RenewTime = new(string), &second, &now
	if _, err := e.leases.Update(ctx, next); err != nil {
		e.Log.Debug("leader lease not released", "object", e.Name, "err", err)
	}
}
