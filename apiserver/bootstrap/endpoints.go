// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/store"
)

const (
	serviceName = "kubernetes"
	// leasePrefix holds one key per live API server, as upstream's, so that both may serve one cluster.
	leasePrefix = "/registry/masterleases/"
)

// kubernetesService makes the Service if it is not there, and its endpoints.
func kubernetesService(ctx context.Context, cfg *Config) error {
	want := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: serviceName,
			Labels: map[string]string{"provider": "kubernetes", "component": "apiserver"},
		},
		Spec: corev1.ServiceSpec{
			Ports:           []corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt32(cfg.SecurePort)}},
			ClusterIP:       cfg.ServiceIP.String(),
			IPFamilyPolicy:  new(corev1.IPFamilyPolicySingleStack),
			SessionAffinity: corev1.ServiceAffinityNone,
			Type:            corev1.ServiceTypeClusterIP,
		},
	}
	if err := ensureOne(ctx, client.Of[*corev1.Service](cfg.Client), want, nil); err != nil {
		return err
	}
	return syncEndpoints(ctx, cfg)
}

// runEndpoints renews this server's lease and repairs the endpoints, three times per LeaseTTL at most. A server that is alone
// has nothing to renew.
func runEndpoints(ctx context.Context, cfg *Config) error {
	if cfg.Leases == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(cfg.LeaseTTL * 2 / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return leave(context.WithoutCancel(ctx), cfg)
		case <-tick.C:
			if err := syncEndpoints(ctx, cfg); err != nil && ctx.Err() == nil {
				cfg.Logger.Warn("endpoints of the kubernetes service", "err", err)
			}
		}
	}
}

// leave takes this server out of the endpoints. It has one LeaseTTL for that: afterwards others do it.
func leave(ctx context.Context, cfg *Config) error {
	ctx, cancel := context.WithTimeout(ctx, cfg.LeaseTTL)
	defer cancel()
	key := leasePrefix + cfg.AdvertiseAddress.String()
	record, _, err := cfg.Leases.Get(ctx, key)
	if err == nil {
		_, err = cfg.Leases.Delete(ctx, key, record.ModRevision)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("remove API server lease: %w", err)
	}
	addresses, err := liveServers(ctx, cfg)
	if err != nil || len(addresses) == 0 {
		return err
	}
	return writeEndpoints(ctx, cfg, addresses)
}

func syncEndpoints(ctx context.Context, cfg *Config) error {
	addresses := []string{cfg.AdvertiseAddress.String()}
	if cfg.Leases != nil {
		if err := renew(ctx, cfg); err != nil {
			return err
		}
		var err error
		if addresses, err = liveServers(ctx, cfg); err != nil {
			return err
		}
	}
	return writeEndpoints(ctx, cfg, addresses)
}

// renew writes this server's key with a new life time. The value changes with every write: a generation counts up.
func renew(ctx context.Context, cfg *Config) error {
	ip := cfg.AdvertiseAddress.String()
	key := leasePrefix + ip
	for {
		record, _, err := cfg.Leases.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("read API server lease: %w", err)
		}
		absent := err != nil
		lease := &corev1.Endpoints{}
		if !absent {
			if lease, err = decodeLease(record.Value); err != nil {
				lease = &corev1.Endpoints{}
			}
		}
		lease.Generation++
		lease.Subsets = []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: ip}}}}
		value, err := encodeLease(lease)
		if err != nil {
			return err
		}
		opts := store.WriteOptions{TTL: cfg.LeaseTTL}
		if absent {
			_, err = cfg.Leases.Create(ctx, key, value, opts)
		} else {
			_, err = cfg.Leases.Update(ctx, key, value, record.ModRevision, opts)
		}
		var conflict *store.ConflictError
		if errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrNotFound) || errors.As(err, &conflict) {
			continue
		}
		if err != nil {
			return fmt.Errorf("renew API server lease: %w", err)
		}
		return nil
	}
}

func liveServers(ctx context.Context, cfg *Config) ([]string, error) {
	page, err := cfg.Leases.List(ctx, store.ListOptions{Prefix: leasePrefix})
	if err != nil {
		return nil, fmt.Errorf("list API server leases: %w", err)
	}
	var out []string
	for _, r := range page.Records {
		if _, err := netip.ParseAddr(strings.TrimPrefix(r.Key, leasePrefix)); err == nil {
			out = append(out, strings.TrimPrefix(r.Key, leasePrefix))
		}
	}
	slices.Sort(out)
	return out, nil
}

// protobufMagic begins every stored protobuf value.
const protobufMagic = "k8s\x00"

func encodeLease(e *corev1.Endpoints) ([]byte, error) {
	raw, err := e.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode API server lease: %w", err)
	}
	unknown := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Endpoints"}, Raw: raw}
	body, err := unknown.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode API server lease: %w", err)
	}
	return append([]byte(protobufMagic), body...), nil
}

func decodeLease(value []byte) (*corev1.Endpoints, error) {
	body, ok := strings.CutPrefix(string(value), protobufMagic)
	if !ok {
		return nil, errors.New("API server lease is not protobuf")
	}
	var unknown runtime.Unknown
	if err := unknown.Unmarshal([]byte(body)); err != nil {
		return nil, fmt.Errorf("decode API server lease: %w", err)
	}
	e := &corev1.Endpoints{}
	if err := e.Unmarshal(unknown.Raw); err != nil {
		return nil, fmt.Errorf("decode API server lease: %w", err)
	}
	return e, nil
}

// writeEndpoints makes Endpoints and EndpointSlice name exactly the addresses. The slice is ours, not the mirroring
// controller's, so that DNS and proxies know the API server before any controller runs.
func writeEndpoints(ctx context.Context, cfg *Config, addresses []string) error {
	subset := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: "https", Port: cfg.SecurePort, Protocol: corev1.ProtocolTCP}}}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: serviceName,
			Labels: map[string]string{discoveryv1.LabelServiceName: serviceName},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("https"), Port: new(cfg.SecurePort), Protocol: new(corev1.ProtocolTCP)}},
	}
	if cfg.AdvertiseAddress.Unmap().Is6() {
		slice.AddressType = discoveryv1.AddressTypeIPv6
	}
	for _, a := range addresses {
		subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: a})
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}})
	}
	endpoints := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: serviceName,
			Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"},
		},
		Subsets: []corev1.EndpointSubset{subset},
	}
	err := ensureOne(ctx, client.Of[*corev1.Endpoints](cfg.Client), endpoints, func(old, want *corev1.Endpoints) (*corev1.Endpoints, bool) {
		if equal.Semantic(old.Subsets, want.Subsets) && old.Labels[discoveryv1.LabelSkipMirror] == "true" {
			return nil, false
		}
		next := old.DeepCopy()
		next.Subsets = want.Subsets
		mergeMeta(next, want)
		return next, true
	})
	if err != nil {
		return err
	}
	r := client.Of[*discoveryv1.EndpointSlice](cfg.Client)
	have, err := r.Get(ctx, slice.Namespace, slice.Name)
	if err == nil && have.AddressType != slice.AddressType {
		// The address type can't be changed in place.
		if err := r.Delete(ctx, slice.Namespace, slice.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return ensureOne(ctx, r, slice, func(old, want *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, bool) {
		if equal.Semantic(old.Endpoints, want.Endpoints) && equal.Semantic(old.Ports, want.Ports) {
			return nil, false
		}
		next := old.DeepCopy()
		next.Endpoints, next.Ports = want.Endpoints, want.Ports
		return next, true
	})
}
