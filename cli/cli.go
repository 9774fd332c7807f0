// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package cli is kogge's command line: one file per verb. A verb binds flags to settings, calls package cluster, and
// prints; it decides nothing.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"kogge.dev/kogge/cluster"
	"kogge.dev/kogge/cri/containerd"
)

// shell is what the verbs share: where they print, and the flags that every verb has.
type shell struct {
	out, err io.Writer
	dataDir  string
	file     string // --config
}

// Main runs one command and returns the exit code: 0 done, 1 it went wrong, 2 it was called wrongly.
func Main(args []string) int {
	if len(args) > 1 {
		switch args[1] {
		case containerd.Verb:
			return containerd.Main(args[2:])
		case "kubectl":
			return kubectlMain(args)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &shell{out: os.Stdout, err: os.Stderr}
	root := s.root()
	root.SetArgs(args[1:])
	root.SetOut(s.out)
	root.SetErr(s.err)
	err := root.ExecuteContext(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "unknown command ") { // cobra has no type for it
		err = fmt.Errorf("%w; %w", err, errUsage)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintln(s.err, "kogge:", err)
		return 2
	}
	fmt.Fprintln(s.err, "kogge:", err)
	return 1
}

// errUsage marks errors of the command line itself.
var errUsage = errors.New("see 'kogge help'")

func (s *shell) root() *cobra.Command {
	root := &cobra.Command{
		Use: "kogge", Short: "Kubernetes v1.36 in one binary",
		Long:         "kogge runs a Kubernetes v1.36 cluster: control plane, nodes and command line in one static binary.",
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.PersistentFlags().StringVar(&s.dataDir, "data-dir", "", "folder of the cluster (default "+cluster.DefaultDataDir+")")
	root.PersistentFlags().StringVar(&s.file, "config", "", "configuration file, YAML; flags win over it")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return fmt.Errorf("%s: %w; %w", cmd.Name(), err, errUsage) })
	root.AddCommand(
		s.upCommand(), s.serverCommand(), s.agentCommand(), s.downCommand(), s.resetCommand(), s.statusCommand(), s.runCommand(),
		s.policyCommand(), s.tokenCommand(), s.kubectlCommand(), s.kubeconfigCommand(), s.imageCommand(), s.versionCommand(),
	)
	explainArgs(root)
	return root
}

// explainArgs makes the commands below one say how they are called when their arguments are wrong.
func explainArgs(parent *cobra.Command) {
	for _, cmd := range parent.Commands() {
		if check := cmd.Args; check != nil {
			cmd.Args = func(c *cobra.Command, args []string) error {
				if err := check(c, args); err != nil {
					return fmt.Errorf("%w; it is called as '%s'; %w", err, c.UseLine(), errUsage)
				}
				return nil
			}
		}
		explainArgs(cmd)
	}
}

// settings reads the file, if any, and lets change put the verb's flags on top.
func (s *shell) settings(change func(*cluster.Settings)) (cluster.Settings, error) {
	var settings cluster.Settings
	if s.file != "" {
		var err error
		if settings, err = cluster.LoadSettings(s.file); err != nil {
			return settings, err
		}
	}
	if s.dataDir != "" {
		settings.DataDir = s.dataDir
	}
	if change != nil {
		change(&settings)
	}
	return settings, settings.Complete()
}

// logger writes text lines at the level of the settings, those of the libraries too.
func (s *shell) logger(level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: l}))
	adoptLibraries(log)
	return log
}
