// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package need is how a test says what it needs of the machine that it runs on. Where that is missing the test is skipped,
// so that the suite is of use to somebody without root; under CI (the environment variable CI is "true") it fails, because
// there a skipped test is one that nobody runs. No other package skips tests: a guard in internal/repo holds that.
package need

import (
	"os"
	"testing"
)

// Root is for tests that make network namespaces, mounts or cgroups, or change owners; why says which, for the reader.
func Root(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "needs root: "+why)
	}
}

// No is for a need that is looked for before the test: err says that it is not there, nil that it is.
func No(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		missing(t, "no "+what+": "+err.Error())
	}
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s; under CI a skipped test is a failure", what)
	}
	t.Skip(what)
}
