// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"path/filepath"
	"strconv"

	"kogge.dev/kogge/test/peers/process"
)

// etcdFlags fix the client's URL on first use: the API server needs it.
func (c *Cluster) etcdFlags(ctx context.Context) ([]string, error) {
	if c.etcd == "" {
		port, err := process.FreePort(ctx)
		if err != nil {
			return nil, err
		}
		c.etcd = fmt.Sprintf("http://127.0.0.1:%d", port)
	}
	peer, err := process.FreePort(ctx)
	if err != nil {
		return nil, err
	}
	return []string{
		"--data-dir=" + filepath.Join(c.config.Dir, "etcd"), "--listen-client-urls=" + c.etcd, "--advertise-client-urls=" + c.etcd,
		fmt.Sprintf("--listen-peer-urls=http://127.0.0.1:%d", peer),
	}, nil
}

func (c *Cluster) apiserverFlags() []string {
	return []string{
		"--etcd-servers=" + c.etcd, "--secure-port=" + strconv.Itoa(c.config.Port), "--advertise-address=" + c.config.Address.String(),
		"--tls-cert-file=" + c.cert("apiserver"), "--tls-private-key-file=" + c.key("apiserver"), "--client-ca-file=" + c.cert("ca"),
		"--service-cluster-ip-range=" + c.config.ServiceCIDR, "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.key("sa"), "--service-account-signing-key-file=" + c.key("sa"),
		"--kubelet-client-certificate=" + c.cert("apiserver-kubelet-client"), "--kubelet-client-key=" + c.key("apiserver-kubelet-client"),
		"--kubelet-preferred-address-types=InternalIP", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--requestheader-client-ca-file=" + c.cert("front-proxy-ca"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--proxy-client-cert-file=" + c.cert("front-proxy-client"),
		"--proxy-client-key-file=" + c.key("front-proxy-client"), "--enable-aggregator-routing", "--allow-privileged",
	}
}

// clientFlags are those of components that know the API server by a kubeconfig. Their own ports are any that are free, so
// that several clusters fit on a machine.
func (c *Cluster) clientFlags(name string) []string {
	config := c.Kubeconfig(name)
	return []string{
		"--kubeconfig=" + config, "--authentication-kubeconfig=" + config, "--authorization-kubeconfig=" + config, "--secure-port=0",
	}
}

func (c *Cluster) trust() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.ca.Pool()}
}
