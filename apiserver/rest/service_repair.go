// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// repairWait is how long a reservation without a Service must stay so before it is taken for lost: its write may be under way in another
// API server.
const repairWait = time.Minute

// RepairServices mends, once after the start, what a crash between a reservation and its write left behind, and what is missing. It returns
// when it is done or ctx ends; what it can't mend it logs.
func (e *Engine) RepairServices(ctx context.Context) error {
	s := e.services
	if len(s.families) == 0 {
		return nil
	}
	first, err := s.survey(ctx)
	if err != nil {
		e.log.Warn("survey service addresses and ports", "err", err)
		return nil
	}
	s.complete(ctx, first)
	if len(first.lostAddrs)+len(first.lostPorts) == 0 {
		return nil
	}
	timer := time.NewTimer(repairWait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil
	}
	second, err := s.survey(ctx)
	if err != nil {
		e.log.Warn("survey service addresses and ports", "err", err)
		return nil
	}
	for ip, owner := range second.lostAddrs {
		if first.lostAddrs[ip] == owner {
			s.release(ctx, &corev1.Service{ObjectMeta: owner.meta()}, []string{ip}, nil)
		}
	}
	lost := slices.DeleteFunc(second.lostPorts, func(p int) bool { return !slices.Contains(first.lostPorts, p) })
	s.release(ctx, &corev1.Service{}, nil, lost)
	return nil
}

// survey is what Services own and what is reserved, compared.
type survey struct {
	services []*corev1.Service
	// lostAddrs are reserved for Services that do not have them, lostPorts are reserved and used by none.
	lostAddrs map[string]owner
	lostPorts []int
	// missing addresses and ports are used without a reservation.
	missingAddrs map[string]*corev1.Service
	missingPorts []int
}

// owner of an address.
type owner struct{ namespace, name string }

func (s *services) survey(ctx context.Context) (*survey, error) {
	services, err := s.engine.Reader().List(ctx, schema.GroupResource{Resource: "services"}, "")
	if err != nil {
		return nil, err
	}
	addresses, err := s.engine.Reader().List(ctx, addressesGVR.GroupResource(), "")
	if err != nil {
		return nil, err
	}
	out := &survey{lostAddrs: map[string]owner{}, missingAddrs: map[string]*corev1.Service{}}
	var ports []int
	for _, obj := range services {
		svc := obj.(*corev1.Service)
		out.services = append(out.services, svc)
		for _, ip := range ownAddresses(svc) {
			out.missingAddrs[ip] = svc
		}
		ports = append(ports, ownPorts(svc)...)
	}
	for _, obj := range addresses {
		addr := obj.(*networkingv1.IPAddress)
		if ref := addr.Spec.ParentRef; addr.Labels[networkingv1.LabelManagedBy] == managedBy && ref != nil {
			if svc := out.missingAddrs[addr.Name]; svc == nil || svc.Namespace != ref.Namespace || svc.Name != ref.Name {
				out.lostAddrs[addr.Name] = owner{ref.Namespace, ref.Name}
			}
		}
		delete(out.missingAddrs, addr.Name)
	}
	return out, s.changePorts(ctx, true, func(bits *big.Int) error {
		for n := range s.last - s.first + 1 {
			if used := slices.Contains(ports, s.first+n); bits.Bit(n) == 1 && !used {
				out.lostPorts = append(out.lostPorts, s.first+n)
			} else if bits.Bit(n) == 0 && used {
				out.missingPorts = append(out.missingPorts, s.first+n)
			}
		}
		return nil
	})
}

// complete reserves what Services use without a reservation.
func (s *services) complete(ctx context.Context, v *survey) {
	for ip, svc := range v.missingAddrs {
		addr, err := netip.ParseAddr(ip)
		if err == nil {
			_, err = s.claim(ctx, svc, addr, false)
		}
		if err != nil {
			s.engine.log.Warn("reserve a service address again", "object", svc.Namespace+"/"+svc.Name, "address", ip, "err", err)
		}
	}
	for _, p := range v.missingPorts {
		if _, err := s.takePort(ctx, p, false); err != nil {
			s.engine.log.Warn("reserve a node port again", "port", fmt.Sprint(p), "err", err)
		}
	}
}

func (o owner) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: o.namespace, Name: o.name}
}
