// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/store"
)

// ServiceConfig configures the allocation of Service addresses and ports.
type ServiceConfig struct {
	// CIDRs are the address ranges of the cluster's Services, the primary family first; at most one per family. More ranges come from
	// ServiceCIDR objects. Without any, Services get no addresses.
	CIDRs []string
	// FirstNodePort and LastNodePort bound the node ports. Default 30000 and 32767.
	FirstNodePort, LastNodePort int
}

// services allocates what Services own outside of themselves: an address is owned by whoever made the IPAddress object of its name, a node
// port by whoever set its bit in the one RangeAllocation. Both are single keys of the store, so that several API servers agree.
type services struct {
	engine   *Engine
	families []corev1.IPFamily // the primary one first
	ranges   map[corev1.IPFamily]netip.Prefix
	first    int
	last     int
}

func newServices(e *Engine, cfg ServiceConfig) (*services, error) {
	s := &services{engine: e, ranges: map[corev1.IPFamily]netip.Prefix{}, first: cfg.FirstNodePort, last: cfg.LastNodePort}
	if s.first == 0 && s.last == 0 {
		s.first, s.last = 30000, 32767
	}
	if s.first < 1 || s.last > 65535 || s.first > s.last {
		return nil, fmt.Errorf("node ports %d-%d are no range", s.first, s.last)
	}
	for _, text := range cfg.CIDRs {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("service CIDR: %w", err)
		}
		f := familyOf(prefix.Addr())
		if s.ranges[f].IsValid() {
			return nil, fmt.Errorf("service CIDRs: two of family %s", f)
		}
		s.ranges[f] = prefix.Masked()
		s.families = append(s.families, f)
	}
	return s, nil
}

func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Unmap().Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

func isService(t *Target) bool { return t.GVR.Group == "" && t.GVR.Resource == "services" }

// reservation is what one write of a Service has taken, and what it gives back when it succeeds.
type reservation struct {
	services *services
	service  *corev1.Service
	dry      bool
	addrs    []string
	ports    []int
	// released when the write succeeds.
	dropAddrs []string
	dropPorts []int
}

// releaseTimeout bounds the clean-up after a write, which must not end with the request.
const releaseTimeout = 10 * time.Second

// reserve allocates what a new or changed Service needs; out learns how to settle it. Other kinds need nothing.
func (e *Engine) reserve(ctx context.Context, c *Call, obj, old kinds.Object, out *outcome) error {
	if !isService(c.Target) || len(e.services.families) == 0 {
		return nil
	}
	svc := obj.(*corev1.Service)
	var before *corev1.Service
	if old != nil {
		before = old.(*corev1.Service)
	}
	r := &reservation{services: e.services, service: svc, dry: c.dryRun()}
	out.undo = func() { r.settle(ctx, false) }
	out.done = func() { r.settle(ctx, true) }
	if err := e.services.chooseFamilies(svc, before); err != nil {
		return err
	}
	if err := r.addresses(ctx, before); err != nil {
		return err
	}
	return r.nodePorts(ctx, before)
}

// settle gives back what is not needed: after failure what was taken, after success what the old state had.
func (r *reservation) settle(ctx context.Context, ok bool) {
	if r.dry {
		return
	}
	addrs, ports := r.addrs, r.ports
	if ok {
		addrs, ports = r.dropAddrs, r.dropPorts
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	r.services.release(ctx, r.service, addrs, ports)
}

// release is best effort: what stays behind is an IPAddress whose Service is gone, or a bit without a Service; repair finds both.
func (s *services) release(ctx context.Context, svc *corev1.Service, addrs []string, ports []int) {
	for _, a := range addrs {
		if err := s.freeAddress(ctx, svc, a); err != nil {
			s.engine.log.Warn("release service address", "object", svc.Namespace+"/"+svc.Name, "address", a, "err", err)
		}
	}
	if len(ports) > 0 {
		if err := s.freePorts(ctx, ports); err != nil {
			s.engine.log.Warn("release node ports", "object", svc.Namespace+"/"+svc.Name, "err", err)
		}
	}
}

// afterRemoval releases what a deleted Service owned, with its Endpoints.
func (e *Engine) afterRemoval(b *bound, obj kinds.Object) {
	svc, ok := obj.(*corev1.Service)
	if !ok || b.Kind.Resource != "services" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	if t := e.Lookup(schema.GroupVersionResource{Version: "v1", Resource: "endpoints"}); t != nil {
		key := t.key(svc.Namespace, svc.Name)
		if record, _, err := e.store.Get(ctx, key); err == nil {
			if _, err := e.store.Delete(ctx, key, record.ModRevision); err != nil {
				e.log.Debug("delete endpoints of deleted service", "object", svc.Namespace+"/"+svc.Name, "err", err)
			}
		}
	}
	if len(e.services.families) == 0 {
		return
	}
	e.services.release(ctx, svc, ownAddresses(svc), ownPorts(svc))
}

// ownAddresses are the addresses that a Service has allocated.
func ownAddresses(svc *corev1.Service) []string {
	if svc == nil || svc.Spec.Type == corev1.ServiceTypeExternalName || headless(svc) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(svc.Spec.ClusterIPs), func(ip string) bool { return ip == "" })
}

// ownPorts are the node ports that a Service has allocated.
func ownPorts(svc *corev1.Service) []int {
	if svc == nil {
		return nil
	}
	var out []int
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 && !slices.Contains(out, int(p.NodePort)) {
			out = append(out, int(p.NodePort))
		}
	}
	if needsHealthPort(svc) && svc.Spec.HealthCheckNodePort != 0 {
		out = append(out, int(svc.Spec.HealthCheckNodePort))
	}
	return out
}

func headless(svc *corev1.Service) bool {
	return svc.Spec.ClusterIP == corev1.ClusterIPNone || len(svc.Spec.ClusterIPs) > 0 && svc.Spec.ClusterIPs[0] == corev1.ClusterIPNone
}

func invalidService(svc *corev1.Service, errs ...*field.Error) error {
	return apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, svc.Name, errs)
}

// addresses allocates the cluster IPs that the Service lacks or names, and notes those that it gives up.
func (r *reservation) addresses(ctx context.Context, old *corev1.Service) error {
	svc := r.service
	held := ownAddresses(old)
	if svc.Spec.Type == corev1.ServiceTypeExternalName || headless(svc) {
		r.dropAddrs = held
		return nil
	}
	if keepsDualStackAsIs(svc, old) {
		return nil
	}
	for i, family := range svc.Spec.IPFamilies {
		if i >= len(svc.Spec.ClusterIPs) {
			svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, "")
		}
		ip := svc.Spec.ClusterIPs[i]
		if ip != "" && slices.Contains(held, ip) {
			continue
		}
		if old != nil && len(held) > i && ip != "" && i == 0 {
			continue // A changed primary address: validation refuses it.
		}
		got, err := r.services.takeAddress(ctx, svc, family, ip, r.dry)
		if err != nil {
			return err
		}
		r.addrs = append(r.addrs, got)
		svc.Spec.ClusterIPs[i] = got
	}
	if len(svc.Spec.ClusterIPs) > 0 {
		svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	}
	for _, ip := range held {
		if !slices.Contains(svc.Spec.ClusterIPs, ip) {
			r.dropAddrs = append(r.dropAddrs, ip)
		}
	}
	return nil
}

// createDirect stores an object of the server's own, without admission.
func (e *Engine) createDirect(ctx context.Context, t *Target, obj kinds.Object) error {
	if _, err := t.toStorage(t.Served, obj); err != nil {
		return err
	}
	data, err := t.encode(obj)
	if err != nil {
		return err
	}
	_, err = e.store.Create(ctx, t.key(obj.GetNamespace(), obj.GetName()), data, store.WriteOptions{})
	return err
}
