// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Command kogge is the whole of Kubernetes in one binary: control plane, node and command line.
package main

import (
	"os"

	"kogge.dev/kogge/cli"
	"kogge.dev/kogge/internal/residency"
)

func main() {
	residency.SampleLess()
	os.Exit(cli.Main(os.Args))
}
