// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"

	"kogge.dev/kogge/internal/pki"
)

// Keys are everything secret that a control plane has.
type Keys struct {
	// CA signs clients, kubelets and the API server's own certificate.
	CA *pki.Authority
	// ProxyCA signs the identity under which the API server calls extension API servers.
	ProxyCA *pki.Authority
	// ServiceAccounts signs service account tokens.
	ServiceAccounts *ecdsa.PrivateKey
	// Kubelets is the client certificate for kubelets, FrontProxy the one for extension API servers.
	Kubelets, FrontProxy pki.Pair
}

// OpenKeys loads the keys of a folder and makes those that are missing.
func OpenKeys(dir string) (Keys, error) {
	var k Keys
	var err error
	if k.CA, err = pki.OpenAuthority(dir, "ca", "kubernetes"); err != nil {
		return k, err
	}
	if k.ProxyCA, err = pki.OpenAuthority(dir, "front-proxy-ca", "front-proxy-ca"); err != nil {
		return k, err
	}
	if k.ServiceAccounts, err = pki.SigningKey(dir, "sa"); err != nil {
		return k, fmt.Errorf("service account key: %w", err)
	}
	return k, k.issue()
}

// NewKeys makes keys that exist only in memory.
func NewKeys() (Keys, error) {
	var k Keys
	var err error
	if k.CA, err = pki.NewAuthority("kubernetes"); err != nil {
		return k, err
	}
	if k.ProxyCA, err = pki.NewAuthority("front-proxy-ca"); err != nil {
		return k, err
	}
	if k.ServiceAccounts, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return k, err
	}
	return k, k.issue()
}

func (k *Keys) issue() error {
	var err error
	k.Kubelets, err = k.CA.Ensure(pki.Leaf{Name: "apiserver-kubelet-client", User: kubeletClientUser})
	if err != nil {
		return err
	}
	k.FrontProxy, err = k.ProxyCA.Ensure(pki.Leaf{Name: "front-proxy-client", User: frontProxyName})
	return err
}

// Names in certificates, as kubeadm writes them.
const (
	kubeletClientUser = "kube-apiserver-kubelet-client"
	frontProxyName    = "front-proxy-client"
)

// serving returns the API server's certificate for its names and addresses.
func (k *Keys) serving(domain string, addresses []netip.Addr, names []string) (tls.Certificate, error) {
	leaf := pki.Leaf{
		Name: "apiserver", User: "kube-apiserver",
		DNS: append([]string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain, "localhost",
		}, names...),
	}
	for _, a := range addresses {
		leaf.IPs = append(leaf.IPs, net.IP(a.AsSlice()))
	}
	pair, err := k.CA.Ensure(leaf)
	if err != nil {
		return tls.Certificate{}, err
	}
	return pair.TLS(), nil
}
