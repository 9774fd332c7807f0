// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/test/peers/bench/cell"
	"kogge.dev/kogge/test/peers/upstream"
)

// upstreamDir holds a measured upstream's keys and data, containerdSocket its runtime's socket.
const (
	upstreamDir      = cell.Dir + "/upstream"
	containerdSocket = upstreamDir + "/containerd.sock"
)

// tuned are the flags that free upstream's programs from limits meant for shared machines: requests in flight, and the rates of
// the components' own clients. Everything else is upstream's default, with what a cluster cannot do without.
func tuned() map[string][]string {
	clients := []string{"--kube-api-qps=5000", "--kube-api-burst=5000"}
	return map[string][]string{
		upstream.KubeAPIServer: {"--max-requests-inflight=6000", "--max-mutating-requests-inflight=3000"},
		upstream.KubeControllerManager: append([]string{
			"--allocate-node-cidrs", "--cluster-cidr=" + podRange, "--service-cluster-ip-range=10.96.0.0/16",
		}, clients...),
		upstream.KubeScheduler: clients,
	}
}

// upstreamCluster makes the keys.
func (r *round) upstreamCluster(ctx context.Context) (*upstream.Cluster, error) {
	return upstream.New(ctx, upstream.Config{
		Binaries: upstream.Binaries(r.peers), Dir: upstreamDir, Address: netip.MustParseAddr(cell.Address), Port: 6443,
	})
}

// prepareUpstream makes keys and readies the programs, so that all start at once.
func (r *round) prepareUpstream(ctx context.Context, p parts) (*subject, string, error) {
	cluster, err := r.upstreamCluster(ctx)
	if err != nil {
		return nil, "", err
	}

	s := &subject{server: cluster.Server()}
	prepare := func(name string, args ...string) error {
		program, err := cell.Prepare(cell.Measured, filepath.Join(cell.Dir, filepath.Base(name)+".log"), append([]string{name}, args...)...)
		if err == nil {
			s.programs = append(s.programs, program)
		}
		return err
	}
	flags := tuned()
	for _, name := range []string{upstream.Etcd, upstream.KubeAPIServer, upstream.KubeControllerManager, upstream.KubeScheduler} {
		args, err := cluster.Flags(ctx, name)
		if err != nil {
			return nil, "", err
		}
		if err := prepare(upstream.Binaries(r.peers).Path(name), append(args, flags[name]...)...); err != nil {
			return nil, "", err
		}
	}
	if p == plane {
		return s, cluster.Kubeconfig(upstream.Admin), nil
	}
	if err := upstreamNode(cluster, r.peers, prepare); err != nil {
		return nil, "", err
	}
	s.needs = map[*cell.Process]string{s.programs[len(s.programs)-1]: containerdSocket} // the kubelet, the last
	s.importImages = func(ctx context.Context, path string) error {
		return outside(ctx, "/usr/bin/ctr", "--address", containerdSocket, "--namespace", "k8s.io", "images", "import", path)
	}
	return s, cluster.Kubeconfig(upstream.Admin), nil
}

// upstreamNode readies a node: Debian's containerd, runc and CNI plugins, upstream's kube-proxy and, the last, kubelet.
func upstreamNode(cluster *upstream.Cluster, peers string, prepare func(name string, args ...string) error) error {
	if err := cluster.WriteKubeconfig("kubelet", pki.Leaf{User: "system:node:" + cell.Node, Groups: []string{"system:nodes"}}); err != nil {
		return err
	}
	files := map[string]string{
		"cni/10-bridge.conflist": bridgeConfig,
		"containerd.toml":        fmt.Sprintf(containerdConfig, upstreamDir, containerdSocket, pauseImage),
		"kubelet.yaml":           fmt.Sprintf(kubeletConfig, upstreamDir, containerdSocket),
		"proxy.yaml":             fmt.Sprintf(proxyConfig, cluster.Kubeconfig(upstream.KubeProxy), cell.Node),
	}
	for name, text := range files {
		if err := writeFile(filepath.Join(upstreamDir, name), text); err != nil {
			return err
		}
	}
	if err := prepare("/usr/bin/containerd", "--config", upstreamDir+"/containerd.toml"); err != nil {
		return err
	}
	binaries := upstream.Binaries(peers)
	if err := prepare(binaries.Path(upstream.KubeProxy), "--config="+upstreamDir+"/proxy.yaml"); err != nil {
		return err
	}
	return prepare(binaries.Path(upstream.Kubelet), "--config="+upstreamDir+"/kubelet.yaml", "--kubeconfig="+cluster.Kubeconfig("kubelet"),
		"--hostname-override="+cell.Node, "--node-ip="+cell.Address, "--root-dir="+upstreamDir+"/kubelet")
}

func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// bridgeConfig is the network of kubeadm's small clusters: a bridge, addresses from a file, NAT on the way out.
const bridgeConfig = `{"cniVersion":"1.0.0","name":"peer","plugins":[
{"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"hairpinMode":true,
 "ipam":{"type":"host-local","dataDir":"/run/cni","ranges":[[{"subnet":"10.128.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
{"type":"portmap","capabilities":{"portMappings":true}}]}
`

const containerdConfig = `version = 2
root = "%[1]s/containerd"
state = "/run/containerd"
[grpc]
  address = "%[2]s"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "%[3]s"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "%[1]s/cni"
`

// kubeletConfig lifts the limits of its client; a cell's disk may be nearly full.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %[1]s/pki/ca.crt}}
authorization: {mode: Webhook}
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://%[2]s
failSwapOn: false
failCgroupV1: false
cgroupDriver: cgroupfs
kubeAPIQPS: 5000
kubeAPIBurst: 5000
eventRecordQPS: 0
serializeImagePulls: false
evictionHard: {imagefs.available: 1%%, nodefs.available: 1%%, memory.available: 100Mi}
`

const proxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
nftables: {minSyncPeriod: 1ms}
clusterCIDR: 10.128.0.0/9
clientConnection: {kubeconfig: %s, qps: 5000, burst: 5000}
hostnameOverride: %s
conntrack: {maxPerCore: 0}
`

// outside runs a command that belongs to neither side: it is not measured.
func outside(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return nil
}

// scenery starts upstream's etcd and API server, unmeasured: what is measured in turn is a client of them. Returned is the administrator's
// kubeconfig, too.
func (r *round) scenery(ctx context.Context) (*subject, string, error) {
	cluster, err := r.upstreamCluster(ctx)
	if err != nil {
		return nil, "", err
	}
	s := &subject{server: cluster.Server()}
	for _, name := range []string{upstream.Etcd, upstream.KubeAPIServer} {
		args, err := cluster.Flags(ctx, name)
		if err != nil {
			return nil, "", err
		}
		args = append(append([]string{upstream.Binaries(r.peers).Path(name)}, args...), tuned()[name]...)
		program, err := cell.Prepare(cell.Scenery, filepath.Join(cell.Dir, name+".log"), args...)
		if err != nil {
			return nil, "", err
		}
		s.programs = append(s.programs, program)
	}
	kubeconfig := cluster.Kubeconfig(upstream.Admin)
	return s, kubeconfig, s.run(ctx, kubeconfig)
}
