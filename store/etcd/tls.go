// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"fmt"
	"net/url"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// TLS names the PEM files of one side of TLS. All or none are set.
type TLS struct {
	// CertFile and KeyFile are our own certificate; CAFile holds the authorities that the other side must be signed by.
	CertFile, KeyFile, CAFile string
}

func (t TLS) validate() error {
	if t == (TLS{}) || (t.CertFile != "" && t.KeyFile != "" && t.CAFile != "") {
		return nil
	}
	return fmt.Errorf("etcd TLS needs certificate, key and authority, or none: have %q, %q and %q", t.CertFile, t.KeyFile, t.CAFile)
}

// server is the serving side: clients must show a certificate.
func (t TLS) server() transport.TLSInfo {
	return transport.TLSInfo{CertFile: t.CertFile, KeyFile: t.KeyFile, TrustedCAFile: t.CAFile, ClientCertAuth: t.CAFile != ""}
}

func (t TLS) client() transport.TLSInfo {
	return transport.TLSInfo{CertFile: t.CertFile, KeyFile: t.KeyFile, TrustedCAFile: t.CAFile}
}

// listenURLs parses URLs and refuses those that would serve without TLS.
func listenURLs(what string, urls []string, tls TLS) ([]url.URL, error) {
	if err := tls.validate(); err != nil {
		return nil, err
	}
	var out []url.URL
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("etcd %s URL: %w", what, err)
		}
		if u.Scheme != "https" || tls == (TLS{}) {
			return nil, fmt.Errorf("etcd %s URL %s: only https with certificates is served", what, text)
		}
		out = append(out, *u)
	}
	return out, nil
}
