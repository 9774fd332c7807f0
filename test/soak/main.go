// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Command soak looks for what kogge does not give back. It runs a whole cluster on this machine, in a network and a mount namespace of its
// own, makes and removes objects of many kinds for a while, and measures the processes, the kernel's objects and the folders of the node:
//
//	warm-up churn ─ all is deleted, quiet ─ MARK ─ churn, sampled ─ all is deleted, quiet ─ MARK
//
// Between the marks, everything that is counted must have come back; during the churn, memory must not climb. The program prints a live
// line, then a table with the slope of each quantity in the second half of the churn, and exits 1 if a quantity is over its bound (see quantities).
//
//	make soak                 # half an hour of churn
//	make soak FOR=6m ONLY=exec,job
//
// What it saw is in .scratch/soak: samples.tsv, the profiles of both marks, and the logs of the node.
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
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	// root of the repository.
	root string
	// churn is how long things are made and removed between the marks; warm as long before them, default a fifth of it, at most five minutes.
	churn, warm time.Duration
	// every is the time between two samples.
	every time.Duration
	// only selects actors by name, separated by commas; empty selects all.
	only string
	// inside says that this process is in the node's namespaces.
	inside bool
}

func (o options) scratch(parts ...string) string {
	return filepath.Join(append([]string{o.root, ".scratch", "soak"}, parts...)...)
}

func main() {
	var o options
	flag.StringVar(&o.root, "root", "../..", "root of the repository")
	flag.DurationVar(&o.churn, "for", 30*time.Minute, "how long to make and remove things")
	flag.DurationVar(&o.warm, "warm-up", 0, "how long to do so before the first mark (default a fifth of -for, at most 5m)")
	flag.DurationVar(&o.every, "every", 5*time.Second, "time between two samples")
	flag.StringVar(&o.only, "only", "", "run only the actors named, separated by commas")
	flag.BoolVar(&o.inside, "inside", false, "set by the command itself when it is in the node's namespaces")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	var err error
	if o.root, err = filepath.Abs(o.root); err != nil {
		return err
	}
	if o.churn <= 0 || o.every <= 0 || o.warm < 0 {
		return errors.New("-for and -every want a time above 0, -warm-up none below")
	}
	if o.warm == 0 {
		o.warm = min(o.churn/5, 5*time.Minute)
	}
	if o.inside {
		return inside(ctx, o)
	}
	if os.Geteuid() != 0 {
		return errors.New("a node needs root: run it as root")
	}
	if err := os.MkdirAll(o.scratch(), 0o755); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	again := exec.CommandContext(ctx, self, "-inside", "-root", o.root, "-for", o.churn.String(), "-warm-up", o.warm.String(), "-every", o.every.String(), "-only", o.only)
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	// A process group of its own: an interrupt of the terminal reaches it once, through Cancel.
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Setpgid: true}
	again.Cancel = func() error { return again.Process.Signal(syscall.SIGTERM) }
	again.WaitDelay = 2 * time.Minute // it resets the node
	err = again.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); ended {
		return errors.New("see above")
	}
	return err
}

// inside runs the soak in namespaces of its own.
func inside(ctx context.Context, o options) (err error) {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	m := &machine{o: o}
	if err := m.reset(ctx); err != nil { // what a killed run left
		return err
	}
	defer func() {
		ending := context.WithoutCancel(ctx)
		err = errors.Join(err, m.keepLogs(), m.reset(ending))
	}()
	if err := m.start(ctx); err != nil {
		return err
	}
	s, err := newSoak(ctx, m)
	if err != nil {
		return err
	}
	return s.run(ctx)
}
