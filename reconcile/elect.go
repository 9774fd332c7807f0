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

// Times of an election, upstream's defaults but for renewPeriod, which upstream has at 2 s: a renewal is a write to the disk,
// and an idle cluster has hardly any other.
const (
	leaseDuration = 15 * time.Second // a lease not renewed for this long may be taken
	renewDeadline = 10 * time.Second // a leader that could not renew for this long steps down
	renewPeriod   = 5 * time.Second  // between renewals; all leaders of a machine renew at the same moments, in one batch
	retryPeriod   = 2 * time.Second  // between attempts to take, or to renew after a failure
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

// election is one candidate.
type election struct {
	ElectConfig
	leases client.Resource[*coordinationv1.Lease]
	// held is the lease as this candidate has last written it, nil if it must be read.
	held *coordinationv1.Lease
	// seen and at are the foreign lease state last observed and when, by our own clock: clocks of other machines are never
	// compared with ours.
	seen string
	at   time.Time
}

// take tries once to acquire or renew the lease. A leader that nobody disturbed writes without reading.
func (e *election) take(ctx context.Context) (bool, error) {
	now := metav1.NowMicro()
	if e.held != nil {
		next := e.held.DeepCopy()
		next.Spec.RenewTime = &now
		return e.took(e.leases.Update(ctx, next))
	}
	seconds := int32(leaseDuration / time.Second)
	lease, err := e.leases.Get(ctx, e.Namespace, e.Name)
	if apierrors.IsNotFound(err) {
		return e.took(e.leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity: &e.Identity, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now, LeaseTransitions: new(int32),
			},
		}))
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
	return e.took(e.leases.Update(ctx, next))
}

// took remembers the lease as it was written, if it was.
func (e *election) took(written *coordinationv1.Lease, err error) (bool, error) {
	e.held = nil
	if err == nil {
		e.held = written
	}
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
	wait := untilRenewal(last)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		attempt, cancel := context.WithDeadline(ctx, last.Add(renewDeadline))
		held, err := e.take(attempt)
		cancel()
		wait = retryPeriod
		switch {
		case held:
			last = time.Now()
			wait = untilRenewal(last)
		case ctx.Err() != nil:
			return nil //nolint:nilerr // told to stop
		case time.Since(last) >= renewDeadline:
			return fmt.Errorf("%w: %s/%s: %w", ErrLostLease, e.Namespace, e.Name, err)
		}
	}
}

// untilRenewal is the time from now to the next moment of renewal.
func untilRenewal(now time.Time) time.Duration {
	return now.Truncate(renewPeriod).Add(renewPeriod).Sub(now)
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
