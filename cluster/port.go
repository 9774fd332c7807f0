// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	configv1 "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/reconcile/serving"
)

// ports are upstream's secure ports.
var ports = map[Role]string{RoleScheduler: ":10259", RoleControllers: ":10257", RoleCloud: ":10258"}

// upstreamNames are what the components are called on their pages.
var upstreamNames = map[Role]string{RoleScheduler: "kube-scheduler", RoleControllers: "kube-controller-manager", RoleCloud: "cloud-controller-manager"}

// openPort listens at the secure port of a component of the control plane that runs alone; nil if the settings say none. The same
// components in a server's process have no port: its API server answers for the process, and idling costs nothing more.
func (m *machine) openPort(ctx context.Context, own *client.Client, vitals *control.Vitals) (*serving.Server, error) {
	address := m.Serving.Address
	switch address {
	case noAddress:
		return nil, nil
	case "":
		address = ports[m.role]
	}
	certificate, err := m.certificateOfPort()
	if err != nil {
		return nil, err
	}
	configuration, err := m.configurationOfPort()
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serving.address: listen on %s: %w", address, err)
	}
	return serving.New(serving.Config{
		Listener: listener, Certificate: certificate, Client: own, Checks: vitals.Checks(), Metrics: vitals.Registry,
		Pages: &serving.Pages{
			Component: upstreamNames[m.role], Started: time.Now(), Paths: []string{"/configz", "/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz"},
			Flags: map[string]string{"bind-address": address, "leader-elect": "true"},
		},
		Configuration: configuration, Log: m.console.Log.With("component", string(m.role)),
	}), nil
}

// certificateOfPort is the one of the settings, or one that is trusted by nobody but those who do not ask.
func (m *machine) certificateOfPort() (tls.Certificate, error) {
	if m.Serving.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(m.Serving.CertFile, m.Serving.KeyFile)
		if err != nil {
			return cert, fmt.Errorf("serving.certFile and serving.keyFile: %w", err)
		}
		return cert, nil
	}
	name := "kogge-" + string(m.role)
	authority, err := pki.NewAuthority(name)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := authority.Issue(pki.Leaf{
		Name: name, User: m.Node.Name, DNS: []string{m.Node.Name, "localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	})
	return pair.TLS(), err
}

// configurationOfPort is what /configz shows: the scheduler's under upstream's name, but only what the settings say of it, without
// defaults; the others' in terms of our settings.
func (m *machine) configurationOfPort() (map[string]any, error) {
	switch m.role {
	case RoleControllers:
		return map[string]any{"controllers": m.Controllers, "network": m.Network}, nil
	case RoleCloud:
		return map[string]any{"network": m.Network}, nil
	default:
	}
	config := configv1.KubeSchedulerConfiguration{}
	config.APIVersion, config.Kind = configv1.SchemeGroupVersion.String(), "KubeSchedulerConfiguration"
	if len(m.Scheduler) > 0 {
		raw, err := yaml.YAMLToJSON(m.Scheduler)
		if err = errors.Join(err, json.Unmarshal(raw, &config)); err != nil {
			return nil, fmt.Errorf("scheduler: %w", err)
		}
	}
	return map[string]any{"componentconfig": config}, nil
}
