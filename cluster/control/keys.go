// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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
	return k, nil
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
	return k, nil
}

// Names in certificates, as kubeadm writes them.
const (
	kubeletClientUser = "kube-apiserver-kubelet-client"
	frontProxyName    = "front-proxy-client"
)

// servingLeaf describes the API server's certificate for its names and addresses.
func servingLeaf(domain string, addresses []netip.Addr, names []string) pki.Leaf {
	leaf := pki.Leaf{
		Name: "apiserver", User: "kube-apiserver",
		DNS: append([]string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain, "localhost",
		}, names...),
	}
	for _, a := range addresses {
		leaf.IPs = append(leaf.IPs, net.IP(a.AsSlice()))
	}
	return leaf
}
