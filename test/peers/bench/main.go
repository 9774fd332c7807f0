// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Command bench measures kogge beside upstream's own programs, tuned, on one machine in one run. Each benchmark is a file; it runs in
// rounds that alternate between the systems, each round in a cell of its own (package cell), and each has gates that void a fast wrong
// answer. Finished rounds are kept, so that a run which was cut short goes on where it was.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"kogge.dev/kogge/test/peers/bench/cell"
)

func main() {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case cell.InitArg:
			os.Exit(cell.Init(context.Background(), os.Args[2:]))
		case cell.ExecArg:
			fmt.Fprintln(os.Stderr, "bench:", cell.Exec(os.Args[2:]))
			os.Exit(1)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has been called.
	}
}

func run(ctx context.Context) error {
	var s session
	var only, alone string
	flag.StringVar(&only, "only", "", "run only the benchmarks named, separated by commas")
	flag.StringVar(&s.scratch, "scratch", ".scratch/bench", "folder for upstream's programs, data and finished rounds")
	flag.StringVar(&s.kogge, "kogge", "bin/kogge", "kogge's program")
	flag.StringVar(&s.order, "order", "kogge,upstream,kogge,upstream,kogge", "which systems to start, in this order")
	flag.BoolVar(&s.fresh, "fresh", false, "forget finished rounds")
	flag.StringVar(&s.document, "document", "", "file whose table to replace, docs/measurements.md")
	flag.DurationVar(&s.idle, "idle", 45*time.Second, "how long to watch an idle system")
	flag.StringVar(&alone, "round", "", "run one round of this benchmark here, in a cell (internal)")
	flag.StringVar(&s.system, "system", "", "the system of that round (internal)")
	flag.StringVar(&s.peers, "peers", "", "folder of upstream's programs (internal)")
	flag.StringVar(&s.profile, "profile", "", "keep a CPU profile of kogge from each case whose name contains this")
	flag.Parse()
	if alone != "" {
		return s.round(ctx, alone)
	}
	return s.all(ctx, only)
}
