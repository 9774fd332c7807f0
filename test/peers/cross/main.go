// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Command cross proves that kogge's components and upstream's replace each other: it starts clusters in which one component is
// foreign, tells each a story (a rollout, a Service by name, a crash, a drain), and runs official tests of the component's area.
//
// There are eight pairings. On kogge's API server all is kogge's but one component; on upstream's all is upstream's but one.
// Container runtime, pod network and DNS are kogge's in all of them. Each runs on one node, in a network namespace of its own.
//
//	make cross                     # all
//	make cross PAIRING=kubelet     # those whose name contains this
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"kogge.dev/kogge/test/peers/upstream"
)

// options are what the command line says.
type options struct {
	// root of the repository.
	root string
	// suite is a folder with e2e.test and ginkgo, images the OCI layout of the suite's images: "make conformance" builds both.
	suite, images string
	// peers is the folder of upstream's programs.
	peers upstream.Binaries
	// pairing selects pairings by a part of their name.
	pairing string
	// story leaves the official tests out.
	story bool
	procs int
	// inside names the one pairing that this process runs, in a network namespace of its own.
	inside string
}

func (o options) scratch(parts ...string) string {
	return filepath.Join(append([]string{o.root, ".scratch", "cross"}, parts...)...)
}

func (o options) program(name string) string { return filepath.Join(o.root, "bin", name) }

func main() {
	var o options
	var peers string
	flag.StringVar(&o.root, "root", "../..", "root of the repository")
	flag.StringVar(&o.suite, "suite", "", "folder with e2e.test and ginkgo (default .scratch/conformance/bin)")
	flag.StringVar(&o.images, "images", "", "OCI layout of the suite's images (default .scratch/conformance/images/oci)")
	flag.StringVar(&peers, "peers", "", "folder of upstream's programs (default: build them)")
	flag.StringVar(&o.pairing, "pairing", "", "run only the pairings whose name contains this")
	flag.BoolVar(&o.story, "story", false, "tell the story only, without official tests")
	flag.IntVar(&o.procs, "procs", 4, "official tests that run at a time")
	flag.StringVar(&o.inside, "inside", "", "set by the command itself for the process of one pairing")
	flag.Parse()
	o.peers = upstream.Binaries(peers)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cross:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	var err error
	if o.root, err = filepath.Abs(o.root); err != nil {
		return err
	}
	for _, d := range []struct {
		path     *string
		fallback string
	}{{&o.suite, "bin"}, {&o.images, "images/oci"}} {
		if *d.path == "" {
			*d.path = filepath.Join(o.root, ".scratch", "conformance", d.fallback)
		}
	}
	if o.inside != "" {
		return inside(ctx, o)
	}
	if os.Getuid() != 0 {
		return errors.New("nodes need root: run it as root")
	}
	if o.peers == "" {
		o.peers, err = upstream.Build(ctx, filepath.Join(o.root, ".scratch", "peers"), os.Stdout, upstream.Etcd, upstream.KubeAPIServer,
			upstream.KubeControllerManager, upstream.KubeScheduler, upstream.Kubelet, upstream.KubeProxy)
		if err != nil {
			return err
		}
	}
	return all(ctx, o)
}

// all runs the selected pairings one after the other and prints a line for each.
func all(ctx context.Context, o options) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var failed []string
	ran := 0
	for _, p := range pairings {
		if !strings.Contains(p.name(), o.pairing) {
			continue
		}
		ran++
		began := time.Now()
		args := append([]string{"-inside", p.name()}, o.arguments()...)
		command := exec.CommandContext(ctx, self, args...)
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
		command.WaitDelay = time.Minute // it stops its cluster
		err := command.Run()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		verdict := "passed"
		if err != nil {
			verdict, failed = "FAILED", append(failed, p.name())
		}
		fmt.Fprintf(os.Stdout, "%-30s %s after %v\n", p.name(), verdict, time.Since(began).Round(time.Second))
	}
	switch {
	case ran == 0:
		return fmt.Errorf("no pairing's name contains %q", o.pairing)
	case len(failed) > 0:
		return fmt.Errorf("%s failed; logs are in %s", strings.Join(failed, ", "), o.scratch())
	}
	return nil
}

// arguments are the flags that make an equal options.
func (o options) arguments() []string {
	return []string{
		"-root", o.root, "-suite", o.suite, "-images", o.images, "-peers", string(o.peers), fmt.Sprintf("-story=%t", o.story),
		fmt.Sprintf("-procs=%d", o.procs),
	}
}

// inside runs one pairing.
func inside(ctx context.Context, o options) (err error) {
	p, err := named(o.inside)
	if err != nil {
		return err
	}
	c, err := newCell(ctx, o, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop(context.WithoutCancel(ctx))) }()
	if err := c.start(ctx); err != nil {
		return fmt.Errorf("%s: start: %w", p.name(), err)
	}
	if err := c.story(ctx); err != nil {
		return fmt.Errorf("%s: story: %w", p.name(), err)
	}
	fmt.Fprintf(os.Stdout, "%-30s the story is told\n", p.name())
	if o.story {
		return nil
	}
	if err := c.official(ctx); err != nil {
		return fmt.Errorf("%s: official tests: %w", p.name(), err)
	}
	return nil
}
