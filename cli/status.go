// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"kogge.dev/kogge/cluster"
	"kogge.dev/kogge/internal/version"
)

func (s *shell) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show components, versions, health, memory and addresses", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := s.settings(nil)
			if err != nil {
				return err
			}
			return cluster.Status(cmd.Context(), settings, s.out)
		},
	}
}

func (s *shell) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintf(s.out, "kogge %s, Kubernetes %s, %s %s/%s\n", version.Kogge, version.Kubernetes, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

func (s *shell) runCommand() *cobra.Command {
	var kubeconfig string
	cmd := &cobra.Command{
		Use: "run COMPONENT --config FILE", Short: "Run one component alone, against any v1.36 API server",
		Long: "Runs one component in the foreground. COMPONENT is one of apiserver, scheduler, controllers, cloud, kubelet, proxy, dns.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("run takes one component, not %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := s.settings(func(c *cluster.Settings) { override(&c.Join.Kubeconfig, kubeconfig) })
			if err != nil {
				return err
			}
			return cluster.RunComponent(cmd.Context(), settings, args[0], cluster.Console{Progress: s.out, Log: s.logger(settings.LogLevel)})
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig of the component's identity")
	return cmd
}
