// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package route finds the address behind a Service, for the calls that leave the API server: webhooks and extension API
// servers. It reads the watch cache; neither cluster DNS nor kube-proxy is needed.
package route

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
)

// dialTimeout bounds one attempt to connect.
const dialTimeout = 5 * time.Second

// Resolver finds addresses.
type Resolver struct {
	Reader admission.Reader
	// Connect opens connections; nil means the network directly. Tests and nodes behind tunnels set it.
	Connect func(ctx context.Context, network, address string) (net.Conn, error)
}

// Resolve returns addresses (host:port) of ready endpoints of a Service's port, in random order; the cluster IP comes last, for Services
// whose endpoints this server can't see. A Service that exists and has nobody behind it is a ServiceUnavailable error.
func (r *Resolver) Resolve(ctx context.Context, namespace, name string, port int32) ([]string, error) {
	services := schema.GroupResource{Resource: "services"}
	svc, found, err := admission.GetAny[*corev1.Service](ctx, r.Reader, services, namespace, name)
	if err == nil && !found {
		err = fmt.Errorf("service %q not found", name)
	}
	if err != nil {
		return nil, err
	}
	sp := portOf(svc, port)
	if sp == nil {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", port, name))
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return []string{net.JoinHostPort(svc.Spec.ExternalName, strconv.Itoa(int(port)))}, nil
	}
	out, err := r.endpoints(ctx, svc, sp)
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
	}
	if svc.Spec.ClusterIP != "" && svc.Spec.ClusterIP != corev1.ClusterIPNone {
		out = append(out, net.JoinHostPort(svc.Spec.ClusterIP, strconv.Itoa(int(port))))
	}
	return out, nil
}

func portOf(svc *corev1.Service, port int32) *corev1.ServicePort {
	for i := range svc.Spec.Ports {
		if svc.Spec.Ports[i].Port == port {
			return &svc.Spec.Ports[i]
		}
	}
	return nil
}

func (r *Resolver) endpoints(ctx context.Context, svc *corev1.Service, sp *corev1.ServicePort) ([]string, error) {
	slices, err := admission.List[*discoveryv1.EndpointSlice](ctx, r.Reader, schema.GroupResource{Group: discoveryv1.GroupName, Resource: "endpointslices"}, svc.Namespace)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range slices {
		if s.Labels[discoveryv1.LabelServiceName] != svc.Name || s.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		for i := range s.Ports {
			if p := &s.Ports[i]; p.Port != nil && nameOf(p.Name) == sp.Name {
				out = append(out, ready(s, int(*p.Port))...)
			}
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out, nil
}

func ready(s *discoveryv1.EndpointSlice, port int) []string {
	var out []string
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		for _, a := range e.Addresses {
			out = append(out, net.JoinHostPort(a, strconv.Itoa(port)))
		}
	}
	return out
}

func nameOf(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// Dial connects to a Service: addresses are tried one after another.
func (r *Resolver) Dial(ctx context.Context, namespace, name string, port int32) (net.Conn, error) {
	addresses, err := r.Resolve(ctx, namespace, name, port)
	if err != nil {
		return nil, err
	}
	connect := r.Connect
	if connect == nil {
		connect = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	var errs []error
	for _, address := range addresses {
		conn, err := connect(ctx, "tcp", address)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}
