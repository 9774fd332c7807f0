// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package proxy passes requests on to kubelets, pods and services: logs, exec, attach, port-forward and plain HTTP, upgraded connections included.
package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
)

// KubeletConfig says how to reach kubelets. Reader is required.
type KubeletConfig struct {
	// TLS carries the server's client certificate and the trust in kubelet certificates.
	TLS *tls.Config
	// Dial connects to an address; nil dials directly.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Reader finds nodes.
	Reader admission.Reader
}

// Kubelets connects to the kubelets of the cluster.
type Kubelets struct {
	cfg       KubeletConfig
	transport *http.Transport
	// insecure does not verify kubelets, for log requests that ask for that.
	insecure *http.Transport
	// plain reaches pods and services.
	plain *http.Transport
}

// NewKubelets makes the transports; nothing is dialled.
func NewKubelets(cfg KubeletConfig) *Kubelets {
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	if cfg.TLS == nil {
		cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	trusting := cfg.TLS.Clone()
	trusting.InsecureSkipVerify = true // The client asked for it; only log lines travel.
	// Pods and services present certificates that nobody vouches for; the proxy adds a path, not trust.
	foreign := &tls.Config{InsecureSkipVerify: true} // See above.
	transport := func(c *tls.Config) *http.Transport {
		return &http.Transport{DialContext: cfg.Dial, TLSClientConfig: c, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 25}
	}
	return &Kubelets{cfg: cfg, transport: transport(cfg.TLS), insecure: transport(trusting), plain: transport(foreign)}
}

var (
	nodes     = schema.GroupResource{Resource: "nodes"}
	pods      = schema.GroupResource{Resource: "pods"}
	services  = schema.GroupResource{Resource: "services"}
	endpoints = schema.GroupResource{Resource: "endpoints"}
)

// node returns a node, or the error to answer with. It reads the store: a node that has just reported where its kubelet listens is found.
func (k *Kubelets) node(ctx context.Context, name string) (*corev1.Node, error) {
	obj, err := k.cfg.Reader.GetFresh(ctx, nodes, "", name)
	if err != nil {
		return nil, err
	}
	node, ok := obj.(*corev1.Node)
	if !ok || node == nil {
		return nil, apierrors.NewNotFound(nodes, name)
	}
	return node, nil
}

// addressOrder is the order in which a node's addresses are tried: the first of the earliest type is taken.
var addressOrder = []corev1.NodeAddressType{
	corev1.NodeInternalIP, corev1.NodeHostName, corev1.NodeInternalDNS, corev1.NodeExternalDNS, corev1.NodeExternalIP,
}

// Address returns host and port of a node's kubelet.
func (k *Kubelets) Address(ctx context.Context, nodeName string) (host, port string, err error) {
	node, err := k.node(ctx, nodeName)
	if err != nil {
		return "", "", err
	}
	port = "10250"
	if p := node.Status.DaemonEndpoints.KubeletEndpoint.Port; p > 0 {
		port = strconv.Itoa(int(p))
	}
	for _, kind := range addressOrder {
		for _, a := range node.Status.Addresses {
			if a.Type == kind && a.Address != "" {
				return a.Address, port, nil
			}
		}
	}
	return "", "", fmt.Errorf("no preferred addresses found; known addresses: %v", node.Status.Addresses)
}

// URL of a path on a node's kubelet.
func (k *Kubelets) URL(ctx context.Context, nodeName, path string, query url.Values) (*url.URL, error) {
	host, port, err := k.Address(ctx, nodeName)
	if err != nil {
		return nil, err
	}
	return &url.URL{Scheme: "https", Host: net.JoinHostPort(host, port), Path: path, RawQuery: query.Encode()}, nil
}
