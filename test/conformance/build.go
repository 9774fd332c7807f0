// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// release is the version of Kubernetes whose suite this is; go.mod requires it.
const release = "v1.36.3"

// programs are what the suite and its images need, by the name of the file that is built.
var programs = []struct{ name, pkg string }{
	{"ginkgo", "github.com/onsi/ginkgo/v2/ginkgo"},
	{"etcd", "go.etcd.io/etcd/server/v3"},
	{"agnhost", "k8s.io/kubernetes/test/images/agnhost"},
	{"regression-issue-74839", "k8s.io/kubernetes/test/images/regression-issue-74839"},
	{"resource-consumer", "k8s.io/kubernetes/test/images/resource-consumer"},
	{"sample-apiserver", "k8s.io/sample-apiserver"},
	{"nonewprivs", "kogge.dev/kogge/test/conformance/nonewprivs"},
}

// build makes the suite and the programs from the modules that go.mod requires. The go command decides what is fresh.
func build(ctx context.Context, o options) error {
	began := time.Now()
	fmt.Fprintln(os.Stdout, "building the suite and the programs of its images (some minutes when caches are cold)")
	const version = " -X k8s.io/component-base/version."
	flags := "-s -w" + version + "gitVersion=" + release + version + "gitMajor=1" + version + "gitMinor=36"
	if err := os.MkdirAll(o.bin, 0o755); err != nil {
		return err
	}
	for _, p := range programs {
		if err := command(ctx, o.list(""), "go", "build", "-trimpath", "-ldflags", flags, "-o", filepath.Join(o.bin, p.name), p.pkg); err != nil {
			return err
		}
	}
	suite := filepath.Join(o.bin, "e2e.test")
	if err := command(ctx, o.list(""), "go", "test", "-c", "-trimpath", "-ldflags", flags, "-o", suite, "k8s.io/kubernetes/test/e2e"); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "built in %v\n", time.Since(began).Round(time.Second))
	return nil
}

// command runs a program to its end, in a folder, and returns what it printed in the error if it fails.
func command(ctx context.Context, dir, name string, args ...string) error {
	_, err := output(ctx, dir, name, args...)
	return err
}

// output is command, and returns what the program printed.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	text, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %q: %w\n%s", name, args, err, text)
	}
	return string(text), nil
}
