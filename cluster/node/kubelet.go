// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/localvolume/nodeside"
	"kogge.dev/kogge/cri"
	"kogge.dev/kogge/cri/containerd"
	"kogge.dev/kogge/internal/version"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kubelet"
	"kogge.dev/kogge/kubelet/volumes"
	"kogge.dev/kogge/ledger"
	"kogge.dev/kogge/reconcile"
)

// Containerd returns the settings of the bundled runtime for a node's paths.
func Containerd(paths Paths, name string, log *slog.Logger) containerd.Config {
	return containerd.Config{
		DataDir: filepath.Join(paths.Data, "containerd"), RunDir: filepath.Join(paths.Run, "ctd"), NodeName: name,
		CgroupRoot: paths.Cgroup + name,
		CNIConfDir: paths.CNIConf, CNIBinDirs: []string{paths.CNIBin}, Logger: log,
	}
}

// Runtime makes the bundled container runtime of a node. It needs nothing of a cluster: who runs it while the API server starts
// has the node ready sooner. The folders that it looks into, and would make, are entered into the ledger first.
func Runtime(paths Paths, name string, l *ledger.Ledger, log *slog.Logger) (*containerd.Supervisor, error) {
	if err := ensureFolders(l, paths.CNIConf, paths.CNIBin); err != nil {
		return nil, err
	}
	return containerd.New(Containerd(paths, name, log.With("component", "containerd")))
}

// addVolumes adds the keeper of local volumes' folders.
func (n *Node) addVolumes() error {
	keeper, err := nodeside.New(nodeside.Config{
		NodeName: n.config.Name, Root: filepath.Join(n.config.Paths.Data, "volumes"), Informers: n.informers, Client: n.config.Kubelet,
		Log: n.config.Log.With("component", "volumes"),
	})
	if err != nil {
		return err
	}
	n.add("volumes", keeper.Run)
	return nil
}

// addKubelet adds the kubelet.
func (n *Node) addKubelet() error {
	if err := ensureFolder(n.config.Ledger, n.settings().StaticPodPath); err != nil {
		return err
	}
	n.add("kubelet", n.runKubelet)
	return nil
}

func (n *Node) runKubelet(ctx context.Context) error {
	socket := n.config.CRISocket
	if n.config.Runtime != nil {
		socket = n.config.Runtime.Socket()
		if err := n.config.Runtime.Ready(ctx); err != nil {
			return client.Ended(ctx, err)
		}
	}
	n.config.Stage("container runtime")
	containers, err := cri.Connect(ctx, socket)
	if err != nil {
		return err
	}
	defer containers.Close()
	if err := os.MkdirAll(n.config.Paths.Kubelet, 0o750); err != nil {
		return fmt.Errorf("make the kubelet's folder: %w", err)
	}
	if err := volumes.Share(n.config.Paths.Kubelet); err != nil {
		return err
	}
	log := n.config.Log.With("component", "kubelet")
	events := reconcile.NewRecorder(n.config.Kubelet, "kubelet", n.config.Name, log)
	if err := n.config.Paths.Release(); err != nil { // a node that was not taken down to the end starts all the same
		return err
	}
	k, err := kubelet.New(kubelet.Config{
		NodeName: n.config.Name, NodeIPs: n.config.IPs, Labels: n.config.Labels, Client: n.config.Kubelet, Runtime: containers,
		Recorder: recorder{events}, Logger: log, Settings: n.settings(),
		Root: n.config.Paths.Kubelet, PodLogs: n.config.Paths.PodLogs, ContainerLogs: n.config.Paths.ContainerLogs,
		CgroupRoot: n.config.Paths.Cgroup + n.config.Name,
		ServerTLS:  &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{n.config.Serving}},
		ClientCA:   n.config.ClientCA, Version: version.Kubernetes,
		Held: n.config.Paths.held,
		OnRegistered: func() {
			n.config.Stage("node registered")
			close(n.registered)
		},
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return events.Run(ctx) })
	g.Go(func() error { return k.Run(ctx) })
	return g.Wait()
}

// settings are the kubelet's, completed by what the node knows.
func (n *Node) settings() kubeletconfig.KubeletConfiguration {
	s := n.config.Settings
	if s.StaticPodPath == "" {
		s.StaticPodPath = n.config.Paths.Manifests
	}
	if s.MaxPods == 0 {
		s.MaxPods = int32(n.config.MaxPods)
	}
	if len(s.RegisterWithTaints) == 0 {
		s.RegisterWithTaints = n.config.Taints
	}
	if len(s.ClusterDNS) == 0 {
		s.ClusterDNS = []string{n.config.DNS.String()}
	}
	if s.ClusterDomain == "" {
		s.ClusterDomain = n.config.Domain
	}
	return s
}

// recorder gives the kubelet's events to the recorder of the runtime of control loops.
type recorder struct{ events *reconcile.Recorder }

func (r recorder) Event(obj runtime.Object, kind, reason, message string) {
	switch about := obj.(type) {
	case kinds.Object:
		r.events.Event(about, kind, reason, "%s", message)
	case *corev1.ObjectReference:
		r.events.EventAbout(*about, kind, reason, "%s", message)
	}
}
