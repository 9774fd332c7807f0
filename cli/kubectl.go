// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/plugin"

	"kogge.dev/kogge/cluster"
)

// kubectlMain is kubectl as published, run against this machine's cluster unless told otherwise.
func kubectlMain(args []string) int {
	rest, dataDir := cutDataDir(args[2:])
	// A folder that is named on the command line wins over the environment.
	if named := len(rest) != len(args)-2; named || os.Getenv("KUBECONFIG") == "" {
		path := cluster.AdminKubeconfig(dataDir)
		if _, err := os.Stat(path); err == nil {
			if err := os.Setenv("KUBECONFIG", path); err != nil {
				fmt.Fprintln(os.Stderr, "kogge:", err)
				return 1
			}
		} else if named {
			fmt.Fprintf(os.Stderr, "kogge: no cluster in %s (start one with 'kogge up'): %v\n", dataDir, err)
			return 1
		}
	}
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	kubectl := cmd.NewDefaultKubectlCommandWithArgs(cmd.KubectlOptions{
		PluginHandler: cmd.NewDefaultPluginHandler(plugin.ValidPluginFilenamePrefixes),
		Arguments:     append([]string{"kubectl"}, rest...), IOStreams: streams,
	})
	kubectl.SetArgs(rest)
	if err := kubectl.Execute(); err != nil {
		return 1
	}
	return 0
}

// cutDataDir takes our own flag out of kubectl's arguments, up to a "--".
func cutDataDir(args []string) (rest []string, dataDir string) {
	dataDir = cluster.DefaultDataDir
	for i := 0; i < len(args); i++ {
		switch value, found := strings.CutPrefix(args[i], "--data-dir="); {
		case args[i] == "--":
			return append(rest, args[i:]...), dataDir
		case found:
			dataDir = value
		case args[i] == "--data-dir" && i+1 < len(args):
			i++
			dataDir = args[i]
		default:
			rest = append(rest, args[i])
		}
	}
	return rest, dataDir
}

// kubectlCommand lists the verb in the help; Main runs it before cobra sees the arguments.
func (s *shell) kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use: "kubectl", Short: "kubectl v1.36 for this cluster", DisableFlagParsing: true,
		Run: func(*cobra.Command, []string) {},
	}
}

func (s *shell) kubeconfigCommand() *cobra.Command {
	var user string
	var groups []string
	command := &cobra.Command{
		Use: "kubeconfig", Short: "Print the administrator's kubeconfig, or one for another user", Args: cobra.NoArgs,
		Long: "Prints the administrator's kubeconfig. With --user it makes a certificate for that user, good for a year, and prints a\n" +
			"kubeconfig with it: of a person, or of a component that runs alone, such as system:kube-scheduler.",
		RunE: func(*cobra.Command, []string) error {
			settings, err := s.settings(nil)
			if err != nil {
				return err
			}
			if user != "" {
				text, err := cluster.IssueKubeconfig(settings, user, groups)
				if err != nil {
					return err
				}
				_, err = s.out.Write(text)
				return err
			}
			if len(groups) > 0 {
				return fmt.Errorf("--group goes with --user; %w", errUsage)
			}
			file, err := os.Open(cluster.AdminKubeconfig(settings.DataDir))
			if err != nil {
				return fmt.Errorf("no cluster in %s (start one with 'kogge up'): %w", settings.DataDir, err)
			}
			defer file.Close()
			_, err = io.Copy(s.out, file)
			return err
		},
	}
	command.Flags().StringVar(&user, "user", "", "name of the user to make a certificate for")
	command.Flags().StringSliceVar(&groups, "group", nil, "groups of that user")
	return command
}
