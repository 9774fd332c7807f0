// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Command differential starts upstream's API server and kogge's, sends both the same requests and prints how the answers
// differ. It fails when something differs that is not listed in test/peers/differential/allowed.yaml.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"kogge.dev/kogge/test/peers/differential"
	"kogge.dev/kogge/test/peers/ours"
	"kogge.dev/kogge/test/peers/upstream"
)

func main() {
	root := flag.String("root", "../..", "root of the checkout")
	scratch := flag.String("scratch", "../../.scratch/peers", "folder for what is built and stored")
	only := flag.String("only", "", "run only seeds and scripts whose title matches this regular expression")
	every := flag.Int("every", 1, "run one of so many faults")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	config := differential.Config{Root: *root, Every: *every, Progress: os.Stderr}
	if *only != "" {
		pattern, err := regexp.Compile(*only)
		if err != nil {
			fail(err)
		}
		config.Only = pattern
	}
	if err := run(ctx, config, *scratch); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "differential:", err)
	os.Exit(1)
}

// run starts the servers, compares them, and stops them.
func run(ctx context.Context, config differential.Config, scratch string) (err error) {
	if config.Fixtures, err = fixtures(ctx); err != nil {
		return err
	}
	binaries, err := upstream.Build(ctx, scratch, os.Stderr, upstream.Etcd, upstream.KubeAPIServer)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(scratch, "differential-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	const cidr, advertised = "10.96.0.0/16", "192.0.2.1"
	theirs, err := upstream.New(ctx, upstream.Config{
		Binaries: binaries, Dir: filepath.Join(dir, "upstream"), ServiceCIDR: cidr,
		Flags: map[string][]string{upstream.KubeAPIServer: {"--advertise-address=" + advertised}},
	})
	if err != nil {
		return err
	}
	const patience = 2 * time.Minute
	starting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := theirs.StartControlPlane(starting); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, theirs.Stop()) }()
	mine, err := ours.Start(starting, ours.Config{
		Dir: filepath.Join(dir, "kogge"), ServiceCIDR: netip.MustParsePrefix(cidr), Advertise: netip.MustParseAddr(advertised),
	})
	if err != nil {
		return fmt.Errorf("start kogge's API server: %w", err)
	}
	defer func() { err = errors.Join(err, mine.Stop()) }()
	if config.Ours, err = mine.Access(); err != nil {
		return err
	}
	config.Upstream = theirs.Access(upstream.Admin)
	report, err := differential.Run(ctx, config)
	if err != nil {
		return err
	}
	return report.Write(os.Stdout, config.Whole())
}

// fixtures finds the manifests that the module k8s.io/api is tested with.
func fixtures(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil {
		return "", fmt.Errorf("find the module k8s.io/api: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "testdata", "HEAD"), nil
}
