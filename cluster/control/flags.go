// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"
)

// flags say how the API server is configured, by the names that kube-apiserver's flags have. Keys and tokens are not among them.
func (c *Config) flags() map[string]string {
	ranges := func(prefixes []netip.Prefix) string {
		out := make([]string, len(prefixes))
		for i, p := range prefixes {
			out[i] = p.String()
		}
		return strings.Join(out, ",")
	}
	mode := "Node,RBAC"
	if c.Authorization != nil {
		mode = "" // the file says
	}
	return map[string]string{
		"advertise-address": c.Advertise.String(), "secure-port": fmt.Sprint(c.Port), "service-cluster-ip-range": ranges(c.ServiceCIDRs),
		"service-account-issuer": Issuer, "authorization-mode": mode, "enable-bootstrap-token-auth": "true", "enable-priority-and-fairness": "true",
		"enable-admission-plugins": strings.Join(c.Admission.Enabled, ","), "disable-admission-plugins": strings.Join(c.Admission.Disabled, ","),
		"requestheader-allowed-names": frontProxyName, "tls-min-version": c.TLS.version(), "tls-cipher-suites": c.TLS.suites(),
	}
}

// version is the least one, in the word of the flag.
func (l TLSLimits) version() string {
	if l.MinVersion == tls.VersionTLS13 {
		return "VersionTLS13"
	}
	return "VersionTLS12"
}

func (l TLSLimits) suites() string {
	names := make([]string, len(l.CipherSuites))
	for i, id := range l.CipherSuites {
		names[i] = tls.CipherSuiteName(id)
	}
	return strings.Join(names, ",")
}
