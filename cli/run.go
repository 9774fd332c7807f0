// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"kogge.dev/kogge/cluster"
)

func (s *shell) runCommand() *cobra.Command {
	var node nodeFlags
	var server serverFlags
	var join cluster.JoinSettings
	var dns string
	cmd := &cobra.Command{
		Use: "run COMPONENT --config FILE", Short: "Run one component alone, against any v1.36 API server",
		Long: "Runs one component in the foreground. COMPONENT is one of apiserver, scheduler, controllers, cloud, kubelet, proxy, dns.\n" +
			"All but apiserver need --kubeconfig with their identity. Ctrl-C stops it; what it made on this machine stays until\n" +
			"'kogge reset', so that pods and Services go on. Several can share one --data-dir.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("run takes one component, not %d; %w", len(args), errUsage)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := s.settings(func(c *cluster.Settings) {
				node.apply(c)
				server.apply(c)
				override(&c.Join.Kubeconfig, join.Kubeconfig)
				override(&c.Join.NetworkKubeconfig, join.NetworkKubeconfig)
				override(&c.DNS.Address, dns)
			})
			if err != nil {
				return err
			}
			return cluster.RunComponent(cmd.Context(), settings, args[0], cluster.Console{Progress: s.out, Log: s.logger(settings.LogLevel)})
		},
	}
	node.bind(cmd)
	server.bindTo(cmd)
	cmd.Flags().StringVar(&join.Kubeconfig, "kubeconfig", "", "kubeconfig of the component's identity")
	cmd.Flags().StringVar(&join.NetworkKubeconfig, "network-kubeconfig", "", "kubeconfig of the pod network beside a kubelet")
	cmd.Flags().StringVar(&dns, "dns-address", "", "address at which DNS answers (default the tenth Service address)")
	return cmd
}

func (s *shell) policyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "policy", Short: "Print the roles that kogge's components need on another API server", Args: cobra.NoArgs,
		Long: "Prints the RBAC objects that kogge's components need besides Kubernetes' default policy. kogge's own API server has them;\n" +
			"on another one, run: kogge policy | kubectl apply -f -",
		RunE: func(*cobra.Command, []string) error { return cluster.WritePolicy(s.out) },
	}
}
