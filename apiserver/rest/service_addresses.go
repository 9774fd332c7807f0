// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/store"
)

var (
	addressesGVR = schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "ipaddresses"}
	cidrsGR      = schema.GroupResource{Group: "networking.k8s.io", Resource: "servicecidrs"}
)

// errAllocated and errFull are what the allocator says in upstream's words.
var (
	errAllocated = errors.New("provided IP is already allocated")
	errFull      = errors.New("range is full")
)

// allocatorName is the manager of the fields of those objects.
const allocatorName = "kube-apiserver"

// managedBy marks the IPAddress objects that the allocator made.
const managedBy = "ipallocator.k8s.io"

// usable lists the ranges of a family: the configured one and those of ready ServiceCIDRs.
func (s *services) usable(ctx context.Context, family corev1.IPFamily) []netip.Prefix {
	out := []netip.Prefix{s.ranges[family]}
	all, err := s.engine.Reader().List(ctx, cidrsGR, "")
	if err != nil {
		return out
	}
	for _, obj := range all {
		cidr, ok := obj.(*networkingv1.ServiceCIDR)
		if !ok || cidr.DeletionTimestamp != nil {
			continue
		}
		if !meta.IsStatusConditionTrue(cidr.Status.Conditions, networkingv1.ServiceCIDRConditionReady) {
			continue
		}
		for _, text := range cidr.Spec.CIDRs {
			if p, err := netip.ParsePrefix(text); err == nil && familyOf(p.Addr()) == family && !slices.Contains(out, p.Masked()) {
				out = append(out, p.Masked())
			}
		}
	}
	return out
}

// takeAddress allocates the address ip, or any of the family when it is empty.
func (s *services) takeAddress(ctx context.Context, svc *corev1.Service, family corev1.IPFamily, ip string, dry bool) (string, error) {
	ranges := s.usable(ctx, family)
	if ip != "" {
		return ip, s.takeNamed(ctx, svc, ranges, ip, dry)
	}
	for _, r := range ranges {
		got, err := s.takeAny(ctx, svc, r, dry)
		if errors.Is(err, errFull) {
			continue
		}
		return got, err
	}
	return "", apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP for Service %q: %w", svc.Name, errFull))
}

func (s *services) takeNamed(ctx context.Context, svc *corev1.Service, ranges []netip.Prefix, ip string, dry bool) error {
	refuse := func(err error) error {
		return invalidService(svc, field.Invalid(field.NewPath("spec", "clusterIPs"), svc.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %v: %v", ip, err)))
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("failed to parse service IP %q", ip))
	}
	inside := slices.ContainsFunc(ranges, func(r netip.Prefix) bool {
		return r.Contains(addr) && addr != r.Addr() && (addr != lastAddr(r) || !addr.Is4())
	})
	switch {
	case inside:
	case dry:
		return refuse(fmt.Errorf("the provided IP (%v) is not in the valid range. The range of valid IPs is %v", ip, ranges[0]))
	default:
		return refuse(errors.New("the provided network does not match the current range"))
	}
	ok, err := s.claim(ctx, svc, addr, dry)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if !ok {
		return refuse(errAllocated)
	}
	return nil
}

// tries bounds the random tries before a range is searched from end to end.
const tries = 32

// takeAny allocates from a range: first from its upper part, at random, so that the lower part stays free for addresses that people choose.
func (s *services) takeAny(ctx context.Context, svc *corev1.Service, r netip.Prefix, dry bool) (string, error) {
	size := rangeSize(r)
	if size == 0 {
		return "", errFull
	}
	static := staticPart(size)
	for _, part := range []struct{ from, to uint64 }{{static, size}, {0, static}} {
		if part.from >= part.to {
			continue
		}
		width := part.to - part.from
		start := rand.Uint64N(width) // Spreads addresses; nothing secret about it.
		for i := range width {
			offset := part.from + (start+i)%width
			if i < tries {
				offset = part.from + rand.Uint64N(width) // See above.
			}
			addr := nth(r, offset+1)
			if s.seen(addr) {
				continue
			}
			ok, err := s.claim(ctx, svc, addr, dry)
			if err != nil {
				return "", apierrors.NewInternalError(err)
			}
			if ok {
				return addr.String(), nil
			}
			if ctx.Err() != nil {
				return "", ctx.Err()
			}
		}
	}
	return "", errFull
}

// rangeSize is how many addresses of a range may be given out: not the first, and for IPv4 not the last. Larger ranges are used in part.
func rangeSize(r netip.Prefix) uint64 {
	bits := r.Addr().BitLen() - r.Bits()
	if bits >= 63 {
		return 1 << 62
	}
	size := uint64(1)<<bits - 1
	if r.Addr().Is4() && size > 0 {
		size--
	}
	return size
}

// staticPart is how many of the lowest addresses are left for people.
func staticPart(size uint64) uint64 {
	const low, high, step = 16, 256, 16
	if size < low {
		return 0
	}
	return min(max(size/step, low), high)
}

// nth is the n-th address of a range, the range's own being the zeroth.
func nth(r netip.Prefix, n uint64) netip.Addr {
	base := r.Masked().Addr()
	sum := new(big.Int).Add(new(big.Int).SetBytes(base.AsSlice()), new(big.Int).SetUint64(n))
	raw := sum.FillBytes(make([]byte, base.BitLen()/8))
	out, _ := netip.AddrFromSlice(raw) // The length fits by construction.
	return out
}

func lastAddr(r netip.Prefix) netip.Addr {
	raw := r.Masked().Addr().AsSlice()
	for i := r.Bits(); i < len(raw)*8; i++ {
		raw[i/8] |= 1 << (7 - i%8)
	}
	out, _ := netip.AddrFromSlice(raw) // The length is an address's.
	return out
}

// seen tells whether the cache knows an owner of an address. It may lag: it only spares tries.
func (s *services) seen(addr netip.Addr) bool {
	t := s.engine.Lookup(addressesGVR)
	if t == nil {
		return false
	}
	_, _, err := t.cache.Get(t.key("", addr.String()))
	return err == nil
}

// claim makes the IPAddress object that owns an address; false means that somebody else has it.
func (s *services) claim(ctx context.Context, svc *corev1.Service, addr netip.Addr, dry bool) (bool, error) {
	t := s.engine.Lookup(addressesGVR)
	if t == nil {
		return false, errors.New("ipaddresses are not served")
	}
	if dry {
		_, _, err := s.engine.store.Get(ctx, t.key("", addr.String()))
		if errors.Is(err, store.ErrNotFound) {
			return true, nil
		}
		return false, err
	}
	obj := &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: addr.String(), Labels: map[string]string{
			networkingv1.LabelIPAddressFamily: string(familyOf(addr)), networkingv1.LabelManagedBy: managedBy,
		}},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: svc.Namespace, Name: svc.Name}},
	}
	fill(obj, metav1.Now().Rfc3339Copy())
	obj.GetObjectKind().SetGroupVersionKind(t.Kind.Storage.GroupVersionKind) // which the field manager wants to know
	write := &Call{Target: t, Create: &metav1.CreateOptions{FieldManager: allocatorName}}
	err := s.engine.createDirect(ctx, t, s.engine.track(ctx, write, t.blank(), obj))
	if errors.Is(err, store.ErrExists) {
		return false, nil
	}
	return err == nil, err
}

// freeAddress deletes the IPAddress object of an address, if it is the Service's.
func (s *services) freeAddress(ctx context.Context, svc *corev1.Service, ip string) error {
	addr, err := netip.ParseAddr(ip)
	t := s.engine.Lookup(addressesGVR)
	if err != nil || t == nil {
		return err
	}
	key := t.key("", addr.String())
	for {
		record, _, err := s.engine.store.Get(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		obj, err := t.cache.Entry(record).Object()
		if err != nil {
			return err
		}
		have, ok := obj.(*networkingv1.IPAddress)
		if ref := have.Spec.ParentRef; !ok || ref == nil || ref.Resource != "services" || ref.Namespace != svc.Namespace || ref.Name != svc.Name {
			return nil // It was never ours, or is no longer.
		}
		_, err = s.engine.store.Delete(ctx, key, record.ModRevision)
		if _, ok := errors.AsType[*store.ConflictError](err); !ok {
			return err
		}
	}
}
