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
