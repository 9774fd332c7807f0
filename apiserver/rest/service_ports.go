// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/store"
)

// portsKey holds the RangeAllocation of all node ports: bit n of its data is set when port first+n is taken.
const portsKey = "/registry/ranges/servicenodeports"

var errPortAllocated = errors.New("provided port is already allocated")

func needsNodePorts(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer
}

// allocatesPorts tells whether ports that name no node port get one.
func allocatesPorts(svc *corev1.Service) bool {
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		return svc.Spec.AllocateLoadBalancerNodePorts == nil || *svc.Spec.AllocateLoadBalancerNodePorts
	}
	return svc.Spec.Type == corev1.ServiceTypeNodePort
}

func needsHealthPort(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// nodePorts allocates the node ports that the Service lacks or names, and notes those that it gives up.
func (r *reservation) nodePorts(ctx context.Context, old *corev1.Service) error {
	svc := r.service
	held := ownPorts(old)
	if needsNodePorts(svc) {
		if err := r.portsOf(ctx, held); err != nil {
			return err
		}
	}
	if needsHealthPort(svc) && !slices.Contains(held, int(svc.Spec.HealthCheckNodePort)) {
		want := int(svc.Spec.HealthCheckNodePort)
		got, err := r.takePort(ctx, want)
		if err != nil && want != 0 {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate requested HealthCheck NodePort %v: %w", want, err))
		}
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a HealthCheck NodePort %v: %w", want, err))
		}
		svc.Spec.HealthCheckNodePort = int32(got) // A port.
	}
	now := ownPorts(svc)
	for _, p := range held {
		if !slices.Contains(now, p) {
			r.dropPorts = append(r.dropPorts, p)
		}
	}
	return nil
}

// portsOf allocates for each port. Two ports of the same number (TCP and UDP) share a node port.
func (r *reservation) portsOf(ctx context.Context, held []int) error {
	svc := r.service
	byPort := map[int32]int{}
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 && byPort[p.Port] == 0 {
			byPort[p.Port] = int(p.NodePort)
		}
	}
	mine := slices.Clone(held)
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.NodePort == 0 && !allocatesPorts(svc) {
			continue
		}
		want := int(p.NodePort)
		if want == 0 && !r.hasProtocol(i, byPort[p.Port]) {
			want = byPort[p.Port]
		}
		if want != 0 && slices.Contains(mine, want) {
			p.NodePort = int32(want) // A port.
			continue
		}
		got, err := r.takePort(ctx, want)
		if err != nil && want != 0 {
			return invalidService(svc, field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), want, err.Error()))
		}
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
		}
		mine = append(mine, got)
		p.NodePort = int32(got) // A port.
		if byPort[p.Port] == 0 {
			byPort[p.Port] = got
		}
	}
	return nil
}

// hasProtocol tells whether an earlier port uses a node port with the same protocol as port i.
func (r *reservation) hasProtocol(i, nodePort int) bool {
	ports := r.service.Spec.Ports
	return nodePort != 0 && slices.ContainsFunc(ports[:i], func(p corev1.ServicePort) bool {
		return int(p.NodePort) == nodePort && p.Protocol == ports[i].Protocol
	})
}

func (r *reservation) takePort(ctx context.Context, want int) (int, error) {
	got, err := r.services.takePort(ctx, want, r.dry)
	if err == nil {
		r.ports = append(r.ports, got)
	}
	return got, err
}

// takePort sets the bit of a port, or of any free one for 0.
func (s *services) takePort(ctx context.Context, want int, dry bool) (int, error) {
	if want != 0 && (want < s.first || want > s.last) {
		return 0, fmt.Errorf("provided port is not in the valid range. The range of valid ports is %d-%d", s.first, s.last)
	}
	got := want
	err := s.changePorts(ctx, dry, func(bits *big.Int) error {
		if want != 0 {
			if bits.Bit(want-s.first) == 1 {
				return errPortAllocated
			}
			bits.SetBit(bits, want-s.first, 1)
			return nil
		}
		free, ok := s.freePort(bits)
		if !ok {
			return errFull
		}
		got = free
		bits.SetBit(bits, free-s.first, 1)
		return nil
	})
	return got, err
}

// freePort picks a free port, from the upper part of the range as long as there is one: the lower is left for people.
func (s *services) freePort(bits *big.Int) (int, bool) {
	size := s.last - s.first + 1
	static := 0
	if size >= 16 {
		static = min(max(size/32, 16), 128)
	}
	for _, part := range [][2]int{{static, size}, {0, static}} {
		width := part[1] - part[0]
		if width <= 0 {
			continue
		}
		start := rand.IntN(width) // Spreads ports; nothing secret about it.
		for i := range width {
			n := part[0] + (start+i)%width
			if bits.Bit(n) == 0 {
				return s.first + n, true
			}
		}
	}
	return 0, false
}

func (s *services) freePorts(ctx context.Context, ports []int) error {
	return s.changePorts(ctx, false, func(bits *big.Int) error {
		for _, p := range ports {
			if p >= s.first && p <= s.last {
				bits.SetBit(bits, p-s.first, 0)
			}
		}
		return nil
	})
}

// changePorts rewrites the bits in one optimistic transaction.
func (s *services) changePorts(ctx context.Context, dry bool, change func(bits *big.Int) error) error {
	for ctx.Err() == nil {
		record, _, err := s.engine.store.Get(ctx, portsKey)
		absent := errors.Is(err, store.ErrNotFound)
		if err != nil && !absent {
			return err
		}
		alloc := &corev1.RangeAllocation{Range: fmt.Sprintf("%d-%d", s.first, s.last)}
		if !absent {
			if err := codec.DecodeStored(record.Value, alloc); err != nil {
				return fmt.Errorf("decode %s: %w", portsKey, err)
			}
		}
		bits := new(big.Int).SetBytes(alloc.Data)
		if err := change(bits); err != nil || dry {
			return err
		}
		alloc.Data = bits.Bytes()
		data, err := codec.Envelope(corev1.SchemeGroupVersion.WithKind("RangeAllocation"), alloc)
		if err != nil {
			return err
		}
		if absent {
			_, err = s.engine.store.Create(ctx, portsKey, data, store.WriteOptions{})
		} else {
			_, err = s.engine.store.Update(ctx, portsKey, data, record.ModRevision, store.WriteOptions{})
		}
		var conflict *store.ConflictError
		if errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrNotFound) || errors.As(err, &conflict) {
			continue
		}
		return err
	}
	return ctx.Err()
}
