// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Command kogge is the whole of Kubernetes in one binary: control plane, node and command line.
package main

import (
	"os"

	"kogge.dev/kogge/cli"
	"kogge.dev/kogge/internal/residency"
	"kogge.dev/kogge/internal/sysmon"
)

func main() {
	residency.SampleLess()
	_ = sysmon.Relax() // Who may not have it otherwise has it as it is.
	os.Exit(cli.Main(os.Args))
}
