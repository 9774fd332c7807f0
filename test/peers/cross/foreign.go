// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"kogge.dev/kogge/test/peers/upstream"
)

// startProxy starts upstream's kube-proxy in its nftables mode.
func (c *cell) startProxy(ctx context.Context) error {
	path := filepath.Join(c.dir, "kube-proxy.yaml")
	text := fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: %s
clientConnection: {kubeconfig: %s}
hostnameOverride: %s
conntrack: {maxPerCore: 0}
`, podCIDR, c.peers.Kubeconfig(upstream.KubeProxy), nodeName)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	return c.peers.StartWith(ctx, upstream.KubeProxy, "--config="+path)
}

// startKubelet starts upstream's kubelet on kogge's container runtime, below the cgroup that the runtime has, so that a reset
// removes what the kubelet made.
func (c *cell) startKubelet(ctx context.Context) error {
	socket := filepath.Join(c.data, "run", "ctd", "containerd.sock")
	var root string
	err := c.await(ctx, "container runtime", func(context.Context) error {
		if _, err := os.Stat(socket); err != nil {
			return err
		}
		found, err := filepath.Glob("/sys/fs/cgroup/*/kogge/*-" + nodeName)
		if err == nil && len(found) == 0 {
			found, err = filepath.Glob("/sys/fs/cgroup/kogge/*-" + nodeName)
		}
		if err == nil && len(found) == 0 {
			err = errors.New("it has no cgroup yet")
		}
		if err == nil {
			root = "/kogge/" + filepath.Base(found[0])
		}
		return err
	})
	if err != nil {
		return err
	}
	hierarchies, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		return err
	}
	for _, h := range hierarchies { // version 1: the kubelet wants its root in each of them
		if err := os.MkdirAll(filepath.Join(filepath.Dir(h), root), 0o755); err != nil {
			return err
		}
	}
	keys := filepath.Join(c.dir, "pki")
	path := filepath.Join(c.dir, "kubelet.yaml")
	text := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %[1]s/ca.crt}}
authorization: {mode: Webhook}
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://%[2]s
failSwapOn: false
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: %[3]s
serverTLSBootstrap: %[4]t
evictionHard: %[5]s
`, keys, socket, root, c.p.ours, evictionHard)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	return c.peers.StartWith(ctx, upstream.Kubelet, "--config="+path, "--kubeconfig="+c.peers.Kubeconfig(kubeletKey),
		"--hostname-override="+nodeName, "--node-ip="+address, "--root-dir="+filepath.Join(c.data, "kubelet"),
		"--cert-dir="+filepath.Join(c.data, "kubelet", "pki"))
}
