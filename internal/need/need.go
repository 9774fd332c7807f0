// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package need is how a test says what it needs of the machine that it runs on. Where that is missing the test is skipped,
// so that the suite is of use to somebody without root; under CI (the environment variable CI is "true") it fails, because
// there a skipped test is one that nobody runs. No other package skips tests: a guard in internal/repo holds that.
package need

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
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

// Port is one that nobody listens on, for what can't be given port 0 and be asked for its address. It lies below those that the kernel gives
// out by itself, to connections too, so that it stays free until the test takes it.
func Port(t testing.TB) int {
	t.Helper()
	var last error
	for range 100 {
		port := 10_000 + rand.IntN(20_000)
		if last = free(t, port); last == nil {
			return port
		}
	}
	t.Fatalf("no free port: %v", last)
	return 0
}

func free(t testing.TB, port int) error {
	t.Helper()
	address := ":" + strconv.Itoa(port)
	stream, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		return err
	}
	datagrams, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", address)
	if err != nil {
		return errors.Join(err, stream.Close())
	}
	return errors.Join(stream.Close(), datagrams.Close())
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s; under CI a skipped test is a failure", what)
	}
	t.Skip(what)
}
