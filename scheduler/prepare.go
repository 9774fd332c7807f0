// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/rules/volumes"
	"kogge.dev/kogge/scheduler/core"
)

// bindTimeout is how long a pod waits for its claims before it is tried anew.
const bindTimeout = 10 * time.Minute

// prepare writes what a plan says and waits until its claims are bound.
func (s *Scheduler) prepare(ctx context.Context, pod *core.Pod, plan *core.Plan) error {
	if plan == nil {
		return nil
	}
	for _, v := range plan.Volumes {
		if _, err := s.volumes.Update(ctx, v); err != nil {
			return fmt.Errorf("bind persistent volume %s: %w", v.Name, err)
		}
	}
	for _, c := range plan.Claims {
		if _, err := s.claims.Update(ctx, c); err != nil {
			return fmt.Errorf("select node of claim %s: %w", c.Name, err)
		}
	}
	for _, c := range plan.DeviceClaims {
		if err := s.reserveDevices(ctx, c); err != nil {
			return fmt.Errorf("reserve resource claim %s: %w", c.Name, err)
		}
	}
	if len(plan.Await) == 0 {
		return nil
	}
	// Provisioning may take minutes: give the permit to others meanwhile.
	<-s.permits
	err := s.await(ctx, pod, plan)
	s.permits <- struct{}{}
	return err
}

// reserveDevices writes a claim's finalizer, if it is new, and then its allocation and reservation.
func (s *Scheduler) reserveDevices(ctx context.Context, wanted *resourcev1.ResourceClaim) error {
	claims := client.Of[*resourcev1.ResourceClaim](s.config.Client)
	stored, err := claims.Update(ctx, wanted)
	if err != nil {
		return err
	}
	next := stored.DeepCopy()
	next.Status = wanted.Status
	_, err = claims.UpdateStatus(ctx, next)
	return err
}

// await waits until the plan's claims are bound, or the pod is gone.
func (s *Scheduler) await(ctx context.Context, pod *core.Pod, plan *core.Plan) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bindTimeout, errors.New("timed out waiting for the condition"))
	defer cancel()
	for {
		changed := s.waits.next()
		done, err := s.allBound(plan)
		if done || err != nil {
			return err
		}
		if known, ok := s.podView.Get(pod.Namespace, pod.Name); !ok || known.UID != pod.UID {
			return apierrors.NewNotFound(corev1.Resource("pods"), pod.Name)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("binding volumes: %w", context.Cause(ctx))
		case <-changed:
		}
	}
}

func (s *Scheduler) allBound(plan *core.Plan) (bool, error) {
	for _, wanted := range plan.Await {
		claim, _ := s.claimSet.Get(wanted.Namespace, wanted.Name)
		if bound, err := boundFor(wanted, claim); !bound {
			return false, err
		}
	}
	return true, nil
}

// boundFor reports whether a claim, which is nil where it is not seen, can be mounted by what has wanted it; an error says that it never will be.
func boundFor(wanted, claim *corev1.PersistentVolumeClaim) (bool, error) {
	switch {
	case claim == nil || claim.UID != wanted.UID:
		return false, fmt.Errorf("persistentvolumeclaim %q not found", wanted.Name)
	case claim.ResourceVersion == wanted.ResourceVersion:
		return false, nil // what was written is not yet seen
	case claim.DeletionTimestamp != nil:
		return false, fmt.Errorf("persistentvolumeclaim %q is being deleted", wanted.Name)
	}
	// Provisioners take the annotation back when they can't make the volume for that node.
	if node := wanted.Annotations[volumes.SelectedNode]; node != "" && claim.Annotations[volumes.SelectedNode] != node {
		return false, fmt.Errorf("provisioning failed for PVC %q", wanted.Name)
	}
	// The binder writes the status last, and kubelets ask for it.
	return volumes.IsBound(claim) && claim.Status.Phase == corev1.ClaimBound, nil
}
