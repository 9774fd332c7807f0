// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Command conformance runs the official end-to-end suite of Kubernetes v1.36.3 against kogge: it builds the suite and the
// images that it asks for, starts two nodes on this machine, runs the tests that a regular expression selects (first in
// parallel, then those that must be alone), and keeps the list of tests that have passed.
//
// The scratch folder (.scratch/conformance of the repository) holds
//
//	bin/            the suite and the programs of its images
//	images/         the images as an OCI layout, and the Debian base that they share
//	nodes/0, 1      data folders of the nodes: they keep their images from run to run, nothing else
//	durations.json  how long tests took, for the expected end
//	runs/<time>/    what a run left: its log, its report, and a folder for each test that failed
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
	"strconv"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	// root of the repository.
	root string
	// focus selects tests by name; ignored with guard.
	focus string
	// skip leaves out tests of these by name; empty leaves out none.
	skip string
	// procs is how many tests run at a time.
	procs int
	// guard selects the tests of guard.txt and some more, drawn by commit.
	guard bool
	// bin holds programs that were built before; empty builds them.
	bin string
	// prepare builds the suite and its images, and runs nothing: others use them.
	prepare bool
	// inside says that this process is in the network namespace of the first node.
	inside bool
}

func (o options) scratch(parts ...string) string {
	return filepath.Join(append([]string{o.root, ".scratch", "conformance"}, parts...)...)
}

func (o options) list(name string) string { return filepath.Join(o.root, "test", "conformance", name) }

func main() {
	var o options
	flag.StringVar(&o.root, "root", "../..", "root of the repository")
	flag.StringVar(&o.focus, "focus", `\[Conformance\]`, "regular expression over the names of tests")
	flag.StringVar(&o.skip, "skip", "", "regular expression over the names of tests to leave out")
	flag.IntVar(&o.procs, "procs", 4, "tests that run at a time")
	flag.BoolVar(&o.guard, "guard", false, "run guard.txt and some more tests, drawn by the commit")
	flag.StringVar(&o.bin, "bin", "", "folder with the suite's programs, built before (default: build them)")
	flag.BoolVar(&o.prepare, "prepare", false, "build the suite and its images only")
	flag.BoolVar(&o.inside, "inside", false, "set by the command itself when it enters the first node's network namespace")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	var err error
	if o.root, err = filepath.Abs(o.root); err != nil {
		return err
	}
	if o.inside {
		return inside(ctx, o)
	}
	if os.Getuid() != 0 {
		return errors.New("nodes need root: run it as root")
	}
	unlock, err := lock(o.scratch())
	if err != nil {
		return err
	}
	defer unlock()
	if err := room(o.scratch()); err != nil {
		return err
	}
	if o.bin == "" {
		o.bin = o.scratch("bin")
		if err := build(ctx, o); err != nil {
			return err
		}
	}
	if err := makeImages(ctx, o); err != nil || o.prepare {
		return err
	}
	m := newMachine(o)
	if err := m.wire(ctx); err != nil {
		return err
	}
	// Everything else happens in the first node's network, where the API server, the registry and the suite meet.
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := append([]string{"--net=" + m.namespace(0), self, "-inside"}, o.arguments()...)
	command := exec.CommandContext(ctx, "nsenter", args...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 3 * time.Minute // it stops the suite and the nodes
	err = command.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		err = errors.New("see above")
	}
	return errors.Join(err, m.unwire(context.WithoutCancel(ctx)))
}

// arguments are the flags that make an equal options.
func (o options) arguments() []string {
	return []string{
		"-root", o.root, "-focus", o.focus, "-skip", o.skip, "-procs", strconv.Itoa(o.procs), "-guard=" + strconv.FormatBool(o.guard), "-bin", o.bin,
	}
}

// inside starts the nodes, runs the suite, and judges it.
func inside(ctx context.Context, o options) (err error) {
	m := newMachine(o)
	defer func() { err = errors.Join(err, m.stop(context.WithoutCancel(ctx))) }()
	if err := m.start(ctx); err != nil {
		return err
	}
	r, err := newRun(ctx, o)
	if err != nil {
		return err
	}
	results, err := r.all(ctx)
	if err != nil {
		return err
	}
	return r.judge(results)
}

// least is the share of a file system, in percent, that the run itself may need.
const least = 3

// room returns an error if the nodes would soon refuse pods for lack of disk, which the suite would wait half an hour for to end.
func room(folder string) error {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(folder, &disk); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", folder, err)
	}
	if free := disk.Bavail * 100 / disk.Blocks; free <= least {
		return fmt.Errorf("the disk of %s has %d %% free; a run wants more than %d %%", folder, free, least)
	}
	return nil
}

// lock makes this the only run of a scratch folder.
func lock(scratch string) (unlock func(), err error) {
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(scratch, "lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("another run uses %s: %w", scratch, err)
	}
	return func() { file.Close() }, nil
}
