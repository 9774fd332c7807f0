// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"kogge.dev/kogge/cluster"
)

func (s *shell) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Create, list and delete the tokens that nodes join with"}
	var ttl time.Duration
	create := &cobra.Command{
		Use: "create", Short: "Create a token and print how to join with it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := s.settings(nil)
			if err != nil {
				return err
			}
			token, server, err := cluster.CreateToken(cmd.Context(), settings, ttl)
			if err != nil {
				return err
			}
			fmt.Fprintln(s.out, token)
			fmt.Fprintf(s.err, "join with: kogge agent --server %s --token %s\n", server, token)
			return nil
		},
	}
	create.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long the token is good for; 0 means for ever")
	list := &cobra.Command{
		Use: "list", Short: "List the tokens", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := s.settings(nil)
			if err != nil {
				return err
			}
			tokens, err := cluster.ListTokens(cmd.Context(), settings)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tEXPIRES\tUSAGES")
			for _, t := range tokens {
				fmt.Fprintf(w, "%s\t%s\t%s\n", t.ID, t.Expires, t.Usages)
			}
			return w.Flush()
		},
	}
	remove := &cobra.Command{
		Use: "delete ID", Short: "Delete a token", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := s.settings(nil)
			if err != nil {
				return err
			}
			return cluster.DeleteToken(cmd.Context(), settings, args[0])
		},
	}
	cmd.AddCommand(create, list, remove)
	return cmd
}
