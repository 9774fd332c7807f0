// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"kogge.dev/kogge/cluster"
)

func (s *shell) downCommand() *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "Stop the cluster and its pods; keep the data", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := s.settings(nil)
			if err != nil {
				return err
			}
			return cluster.Down(cmd.Context(), settings, s.out)
		},
	}
}

func (s *shell) resetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reset", Short: "Stop the cluster and remove everything that kogge made on this machine", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := s.settings(nil)
			if err != nil {
				return err
			}
			left, err := cluster.Reset(cmd.Context(), settings, s.out)
			if err != nil {
				return err
			}
			if len(left) == 0 {
				fmt.Fprintln(s.out, "nothing left")
				return nil
			}
			for _, what := range left {
				fmt.Fprintln(s.out, "left:", what)
			}
			return errors.New("not everything could be removed")
		},
	}
}
