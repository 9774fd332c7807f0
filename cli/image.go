// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"kogge.dev/kogge/cluster"
)

func (s *shell) imageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Import and list the node's container images"}
	importing := &cobra.Command{
		Use: "import FILE...", Short: "Import docker or OCI archives, keeping their annotated names", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := s.settings(nil)
			if err != nil {
				return err
			}
			for _, path := range args {
				file, err := os.Open(path)
				if err != nil {
					return fmt.Errorf("import: %w", err)
				}
				names, err := cluster.ImportImages(cmd.Context(), settings, file)
				file.Close()
				if err != nil {
					return fmt.Errorf("import %s: %w", path, err)
				}
				for _, name := range names {
					fmt.Fprintln(s.out, name)
				}
			}
			return nil
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List the images", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := s.settings(nil)
			if err != nil {
				return err
			}
			images, err := cluster.ListImages(cmd.Context(), settings)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "IMAGE\tDIGEST\tSIZE")
			for _, i := range images {
				fmt.Fprintf(w, "%s\t%s\t%d\n", i.Name, i.Digest, i.Size)
			}
			return w.Flush()
		},
	}
	cmd.AddCommand(importing, list)
	return cmd
}
