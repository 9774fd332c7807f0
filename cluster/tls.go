// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	cliflag "k8s.io/component-base/cli/flag"

	"kogge.dev/kogge/cluster/control"
)

// TLSSettings bound what clients may speak with the API server. Names and values are those of kube-apiserver's flags tls-min-version and
// tls-cipher-suites.
type TLSSettings struct {
	// MinVersion is VersionTLS12 or VersionTLS13; default VersionTLS12.
	MinVersion string `json:"minVersion,omitempty"`
	// CipherSuites of TLS 1.2 by their IANA names; default those of crypto/tls. Those of TLS 1.3 can't be chosen.
	CipherSuites []string `json:"cipherSuites,omitempty"`
}

// limits returns what the settings say, or what is wrong with them.
func (s *TLSSettings) limits() (control.TLSLimits, error) {
	version := cliflag.DefaultTLSVersion()
	if s.MinVersion != "" {
		var err error
		if version, err = cliflag.TLSVersion(s.MinVersion); err != nil || version < tls.VersionTLS12 {
			return control.TLSLimits{}, fmt.Errorf("api.tls.minVersion: %q is not VersionTLS12 or VersionTLS13", s.MinVersion)
		}
	}
	suites, err := cliflag.TLSCipherSuites(s.CipherSuites)
	if err != nil {
		return control.TLSLimits{}, fmt.Errorf("api.tls.cipherSuites: %w", err)
	}
	required := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	if len(suites) > 0 && version < tls.VersionTLS13 && !slices.ContainsFunc(suites, func(id uint16) bool { return slices.Contains(required, id) }) {
		return control.TLSLimits{}, errors.New("api.tls.cipherSuites: HTTP/2 needs " +
			"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 (RFC 9113, 9.2.2)")
	}
	return control.TLSLimits{MinVersion: version, CipherSuites: suites}, nil
}

func (s *TLSSettings) validate() error {
	_, err := s.limits()
	return err
}
