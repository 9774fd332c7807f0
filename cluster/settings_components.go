// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"kogge.dev/kogge/scheduler"
)

// ControllersSettings configure controllers that run alone.
type ControllersSettings struct {
	// UseServiceAccountCredentials lets each controller act as its own service account of kube-system, whose tokens the identity
	// in join.kubeconfig asks for; false lets all act as that identity. Default true.
	UseServiceAccountCredentials *bool `json:"useServiceAccountCredentials,omitempty"`
	// RootCAFile is what pods trust; default the certificate authority of the kubeconfig.
	RootCAFile string `json:"rootCAFile,omitempty"`
	// SigningCertFile and SigningKeyFile sign certificate requests; default none, requests stay unsigned.
	SigningCertFile string `json:"signingCertFile,omitempty"`
	SigningKeyFile  string `json:"signingKeyFile,omitempty"`
	// ServiceAccountKeyFile signs the tokens of secrets of type kubernetes.io/service-account-token: the private key whose public
	// one the API server trusts. Default none, such secrets stay empty.
	ServiceAccountKeyFile string `json:"serviceAccountKeyFile,omitempty"`
}

// ServingSettings configure the secure port of scheduler, controllers or cloud that run alone.
type ServingSettings struct {
	// Address is listened on; default :10259 of the scheduler, :10257 of the controllers, :10258 of the cloud loops; none turns it off.
	Address string `json:"address,omitempty"`
	// CertFile and KeyFile hold the certificate; default one that is made at the start and that nobody knows.
	CertFile string `json:"certFile,omitempty"`
	KeyFile  string `json:"keyFile,omitempty"`
}

// noAddress turns a port off.
const noAddress = "none"

// ProxySettings configure the Service proxy.
type ProxySettings struct {
	// HealthAddress and MetricsAddress are listened on; default :10256 and 127.0.0.1:10249.
	HealthAddress  string `json:"healthAddress,omitempty"`
	MetricsAddress string `json:"metricsAddress,omitempty"`
	// MasqueradeAll masquerades all traffic to Services, not only what comes from outside of the pod ranges.
	MasqueradeAll bool `json:"masqueradeAll,omitempty"`
	// NodePortAddresses are the ranges of the node's addresses that answer on node ports; default all but loopback.
	NodePortAddresses []string `json:"nodePortAddresses,omitempty"`
}

// DNSSettings configure the DNS server of a node.
type DNSSettings struct {
	// Address at which it answers, port 53; default the tenth of the first Service range.
	Address string `json:"address,omitempty"`
	// HealthAddress is where health and metrics are served; default nowhere.
	HealthAddress string `json:"healthAddress,omitempty"`
	// ResolvConf lists the servers for other zones; default /etc/resolv.conf. Upstreams (host:port) replace it.
	ResolvConf string   `json:"resolvConf,omitempty"`
	Upstreams  []string `json:"upstreams,omitempty"`
}

// validateComponents checks the settings of single components.
func (s *Settings) validateComponents() error {
	var errs []error
	refuse := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf(field+": "+format, args...))
	}
	for _, name := range s.Without {
		if !slices.Contains(parts, name) {
			refuse("without", "%w", unknownName(name, parts))
		}
	}
	switch s.Network.Plugin {
	case "", PluginKogge, PluginNone:
	default:
		refuse("network.plugin", "%q is not %s or %s", s.Network.Plugin, PluginKogge, PluginNone)
	}
	if (s.Controllers.SigningCertFile == "") != (s.Controllers.SigningKeyFile == "") {
		refuse("controllers", "signingCertFile and signingKeyFile go together")
	}
	if (s.Serving.CertFile == "") != (s.Serving.KeyFile == "") {
		refuse("serving", "certFile and keyFile go together")
	}
	if _, _, err := net.SplitHostPort(s.Serving.Address); s.Serving.Address != "" && s.Serving.Address != noAddress && err != nil {
		refuse("serving.address", "%q is not an address like 127.0.0.1:80, nor %s: %w", s.Serving.Address, noAddress, err)
	}
	for field, address := range map[string]string{
		"proxy.healthAddress": s.Proxy.HealthAddress, "proxy.metricsAddress": s.Proxy.MetricsAddress, "dns.healthAddress": s.DNS.HealthAddress,
	} {
		if _, _, err := net.SplitHostPort(address); address != "" && err != nil {
			refuse(field, "%q is not an address like 127.0.0.1:80: %w", address, err)
		}
	}
	for _, text := range s.Proxy.NodePortAddresses {
		if _, err := netip.ParsePrefix(text); err != nil {
			refuse("proxy.nodePortAddresses", "%q is not an address range like 192.0.2.0/24", text)
		}
	}
	if len(s.Scheduler) > 0 {
		if _, err := scheduler.ParseSettings(s.Scheduler); err != nil {
			refuse("scheduler", "%w", err)
		}
	}
	return errors.Join(errs...)
}
