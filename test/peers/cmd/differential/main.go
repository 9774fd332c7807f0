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
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/test/peers/access"
	"kogge.dev/kogge/test/peers/differential"
	"kogge.dev/kogge/test/peers/ours"
	"kogge.dev/kogge/test/peers/upstream"
)

// What both servers are told of their cluster.
const cidr, advertised = "10.96.0.0/16", "192.0.2.1"

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

// requested is what both servers are asked for in the second round: everything.
var requested = map[string]string{"api/all": "true"}

// run compares the servers as they are by default, and once more with the versions that are served on request.
func run(ctx context.Context, config differential.Config, scratch string) (err error) {
	if config.Fixtures, err = fixtures(ctx); err != nil {
		return err
	}
	binaries, err := upstream.Build(ctx, scratch, os.Stderr, upstream.Etcd, upstream.KubeAPIServer)
	if err != nil {
		return err
	}
	report, err := differential.NewReport(config.Root)
	if err != nil {
		return err
	}
	for _, versions := range []map[string]string{nil, requested} {
		config.Requested = versions
		if err := round(ctx, config, report, binaries, scratch); err != nil {
			return err
		}
	}
	return report.Write(os.Stdout, config.Whole())
}

// round starts the servers, compares them, and stops them.
func round(ctx context.Context, config differential.Config, report *differential.Report, binaries upstream.Binaries, scratch string) (err error) {
	flags := []string{"--advertise-address=" + advertised}
	for _, version := range slices.Sorted(maps.Keys(config.Requested)) {
		flags = append(flags, "--runtime-config="+version+"="+config.Requested[version])
	}
	policyFile, err := filepath.Abs(differential.AuditPolicy(config.Root))
	if err != nil {
		return err
	}
	policy, err := os.ReadFile(policyFile)
	if err != nil {
		return err
	}
	served, err := catalog.Serving(config.Requested)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(scratch, "differential-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	theirLog, err := filepath.Abs(filepath.Join(dir, "upstream-audit.log"))
	if err != nil {
		return err
	}
	flags = append(flags, "--audit-policy-file="+policyFile, "--audit-log-path="+theirLog)
	theirs, err := upstream.New(ctx, upstream.Config{
		Binaries: binaries, Dir: filepath.Join(dir, "upstream"), ServiceCIDR: cidr,
		Flags: map[string][]string{upstream.KubeAPIServer: flags},
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
		AuditPolicy: policy, AuditLog: filepath.Join(dir, "kogge-audit.log"), Dir: filepath.Join(dir, "kogge"), ServiceCIDR: netip.MustParsePrefix(cidr), Advertise: netip.MustParseAddr(advertised), Served: served,
	})
	if err != nil {
		return fmt.Errorf("start kogge's API server: %w", err)
	}
	defer func() { err = errors.Join(err, mine.Stop()) }()
	if config.Ours, err = mine.Access(); err != nil {
		return err
	}
	config.Upstream = theirs.Access(upstream.Admin)
	if config.Audit, err = audited(mine, theirs, dir); err != nil {
		return err
	}
	return differential.Run(ctx, config, report)
}

// audited makes the users whose requests are recorded.
func audited(mine *ours.Server, theirs *upstream.Cluster, dir string) (*differential.Audit, error) {
	out := &differential.Audit{
		OurLog: filepath.Join(dir, "kogge-audit.log"), UpstreamLog: filepath.Join(dir, "upstream-audit.log"),
		Ours: map[string]access.Access{}, Upstream: map[string]access.Access{},
	}
	for _, leaf := range differential.AuditedUsers {
		var err error
		if out.Ours[leaf.User], err = mine.AccessOf(leaf); err != nil {
			return nil, err
		}
		if err := theirs.WriteKubeconfig(leaf.User, leaf); err != nil {
			return nil, err
		}
		out.Upstream[leaf.User] = theirs.Access(leaf.User)
	}
	return out, nil
}

// fixtures finds the manifests that the module k8s.io/api is tested with.
func fixtures(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil {
		return "", fmt.Errorf("find the module k8s.io/api: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "testdata", "HEAD"), nil
}
