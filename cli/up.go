// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"kogge.dev/kogge/cluster"
)

// nodeFlags are the flags of verbs that run a node; each has a field in cluster.Settings.
type nodeFlags struct {
	name, ip, criSocket, logLevel string
	labels                        map[string]string
	taints                        []string
}

func (f *nodeFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, "node-name", "", "name of this node (default the host's name)")
	cmd.Flags().StringVar(&f.ip, "node-ip", "", "address of this node (default that of the default route)")
	cmd.Flags().StringToStringVar(&f.labels, "node-label", nil, "labels to register the node with, key=value")
	cmd.Flags().StringSliceVar(&f.taints, "node-taint", nil, "taints to register the node with, key=value:Effect")
	cmd.Flags().StringVar(&f.criSocket, "cri-socket", "", "socket of another container runtime than the one inside")
	cmd.Flags().StringVar(&f.logLevel, "log-level", "", "debug, info, warn or error (default info)")
}

func (f *nodeFlags) apply(s *cluster.Settings) {
	override(&s.Node.Name, f.name)
	override(&s.Node.IP, f.ip)
	override(&s.Node.CRISocket, f.criSocket)
	override(&s.LogLevel, f.logLevel)
	if len(f.labels) > 0 {
		s.Node.Labels = f.labels
	}
	if len(f.taints) > 0 {
		s.Node.Taints = f.taints
	}
}

// serverFlags are the flags of verbs that run a control plane.
type serverFlags struct {
	bind, advertise, domain   string
	port                      int
	podCIDRs, serviceCIDRs    []string
	sans, etcdEndpoints       []string
	etcdCA, etcdCert, etcdKey string
	runtimeConfig             []string
}

func (f *serverFlags) bindTo(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.bind, "bind-address", "", "address that the API server listens on (default all)")
	cmd.Flags().IntVar(&f.port, "port", 0, "port of the API server (default 6443)")
	cmd.Flags().StringVar(&f.advertise, "advertise-address", "", "address at which nodes reach the API server (default the node's)")
	cmd.Flags().StringSliceVar(&f.sans, "san", nil, "more names and addresses for the API server's certificate")
	cmd.Flags().StringSliceVar(&f.runtimeConfig, "runtime-config", nil, "versions of the API to serve besides the default ones, resource.k8s.io/v1beta1=true")
	cmd.Flags().StringSliceVar(&f.podCIDRs, "pod-cidr", nil, "ranges of pod addresses (default 10.244.0.0/16)")
	cmd.Flags().StringSliceVar(&f.serviceCIDRs, "service-cidr", nil, "ranges of Service addresses (default 10.96.0.0/16)")
	cmd.Flags().StringVar(&f.domain, "domain", "", "DNS domain of the cluster (default cluster.local)")
	cmd.Flags().StringSliceVar(&f.etcdEndpoints, "etcd-endpoints", nil, "an external etcd instead of the one inside")
	cmd.Flags().StringVar(&f.etcdCA, "etcd-ca-file", "", "certificate authority of the external etcd")
	cmd.Flags().StringVar(&f.etcdCert, "etcd-cert-file", "", "client certificate for the external etcd")
	cmd.Flags().StringVar(&f.etcdKey, "etcd-key-file", "", "key of that certificate")
}

func (f *serverFlags) apply(s *cluster.Settings) {
	override(&s.API.BindAddress, f.bind)
	override(&s.API.AdvertiseAddress, f.advertise)
	override(&s.Network.Domain, f.domain)
	override(&s.Store.CAFile, f.etcdCA)
	override(&s.Store.CertFile, f.etcdCert)
	override(&s.Store.KeyFile, f.etcdKey)
	if f.port != 0 {
		s.API.Port = f.port
	}
	if len(f.runtimeConfig) > 0 {
		s.API.RuntimeConfig = cluster.RuntimeConfig{}
		for _, pair := range f.runtimeConfig {
			key, value, _ := strings.Cut(pair, "=")
			s.API.RuntimeConfig[key] = value
		}
	}
	overrideList(&s.API.SANs, f.sans)
	overrideList(&s.Network.PodCIDRs, f.podCIDRs)
	overrideList(&s.Network.ServiceCIDRs, f.serviceCIDRs)
	overrideList(&s.Store.Endpoints, f.etcdEndpoints)
}

func override(field *string, flag string) {
	if flag != "" {
		*field = flag
	}
}

func overrideList(field *[]string, flag []string) {
	if len(flag) > 0 {
		*field = flag
	}
}

func (s *shell) upCommand() *cobra.Command {
	var node nodeFlags
	var server serverFlags
	var detach bool
	cmd := &cobra.Command{
		Use: "up", Short: "Start a cluster on this machine: control plane and node", Args: cobra.NoArgs,
		Long: "Starts a cluster on this machine. With --detach it returns when the node is Ready; otherwise it stays until Ctrl-C,\n" +
			"which leaves the pods running. 'kogge down' stops pods too.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := s.settings(func(c *cluster.Settings) { node.apply(c); server.apply(c) })
			if err != nil {
				return err
			}
			if detach {
				if err := cluster.Detach(cmd.Context(), settings, cluster.RoleAll, s.out); err != nil {
					return err
				}
				s.next(settings)
				return nil
			}
			return cluster.Run(cmd.Context(), settings, cluster.RoleAll, cluster.Console{
				Progress: s.out, Log: s.logger(settings.LogLevel), Ready: func() { s.next(settings) },
			})
		},
	}
	node.bind(cmd)
	server.bindTo(cmd)
	cmd.Flags().BoolVar(&detach, "detach", false, "return when the node is Ready; the cluster goes on in the background")
	return cmd
}

// next tells a newcomer what to try.
func (s *shell) next(settings cluster.Settings) {
	self := "kogge"
	if exe, err := os.Executable(); err == nil {
		self = exe
	}
	where := ""
	if settings.DataDir != cluster.DefaultDataDir {
		where = " --data-dir " + settings.DataDir
	}
	fmt.Fprintf(s.out, "\nTry next:\n  %s status%s\n  export KUBECONFIG=%s\n  %s kubectl%s get pods -A\n",
		self, where, cluster.AdminKubeconfig(settings.DataDir), self, where)
}

func (s *shell) serverCommand() *cobra.Command {
	var server serverFlags
	var node nodeFlags
	cmd := &cobra.Command{
		Use: "server", Short: "Run only a control plane, in the foreground", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := s.settings(func(c *cluster.Settings) { node.apply(c); server.apply(c) })
			if err != nil {
				return err
			}
			return cluster.Run(cmd.Context(), settings, cluster.RoleServer, cluster.Console{Progress: s.out, Log: s.logger(settings.LogLevel)})
		},
	}
	server.bindTo(cmd)
	cmd.Flags().StringVar(&node.ip, "node-ip", "", "address of this machine (default that of the default route)")
	cmd.Flags().StringVar(&node.logLevel, "log-level", "", "debug, info, warn or error (default info)")
	return cmd
}

func (s *shell) agentCommand() *cobra.Command {
	var node nodeFlags
	var join cluster.JoinSettings
	cmd := &cobra.Command{
		Use: "agent", Short: "Run only a node and join it to a cluster, in the foreground", Args: cobra.NoArgs,
		Long: "Runs a node. The token, from 'kogge token create' on a server, is all that it needs: it finds the cluster's certificate\n" +
			"authority with it and makes sure that it is the right one.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := s.settings(func(c *cluster.Settings) {
				node.apply(c)
				override(&c.Join.Server, join.Server)
				override(&c.Join.Token, join.Token)
			})
			if err != nil {
				return err
			}
			return cluster.Run(cmd.Context(), settings, cluster.RoleAgent, cluster.Console{Progress: s.out, Log: s.logger(settings.LogLevel)})
		},
	}
	node.bind(cmd)
	cmd.Flags().StringVar(&join.Server, "server", "", "URL of an API server, https://host:6443")
	cmd.Flags().StringVar(&join.Token, "token", "", "bootstrap token, id.secret")
	return cmd
}
