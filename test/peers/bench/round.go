// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"kogge.dev/kogge/test/peers/bench/cell"
	"kogge.dev/kogge/test/peers/bench/load"
	"kogge.dev/kogge/test/peers/bench/table"
)

// resultFile is where a round leaves what it measured, in its scratch folder.
const resultFile = "result.json"

// round is one start of one system, in a cell. It gathers measures and facts.
type round struct {
	session
	result table.Round
}

// round runs a benchmark's round and writes its result. The process is in a cell.
func (s *session) round(ctx context.Context, name string) error {
	all := benchmarks()
	i := slices.IndexFunc(all, func(b benchmark) bool { return b.name == name })
	r := &round{session: *s, result: table.Round{System: s.system, Facts: map[string]string{}}}
	// What was measured until the time is up counts.
	limited, cancel := context.WithTimeoutCause(ctx, all[i].limit, fmt.Errorf("not finished after %v", all[i].limit))
	defer cancel()
	if err := all[i].run(limited, r); err != nil {
		r.result.Failed = err.Error()
	}
	return writeRound(filepath.Join(cell.Dir, resultFile), r.result)
}

// less records a measure of which less is better.
func (r *round) less(c, name string, value float64) {
	r.result.Measures = append(r.result.Measures, table.Measure{Case: c, Name: name, Value: value})
}

// more records a measure of which more is better.
func (r *round) more(c, name string, value float64) {
	r.result.Measures = append(r.result.Measures, table.Measure{Case: c, Name: name, Value: value, More: true})
}

// fact records what must be the same in every round; see table.Round.
func (r *round) fact(c, detail, value string) { r.result.Facts[c+"/"+detail] = value }

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }
func microseconds(d time.Duration) float64 { return d.Seconds() * 1e6 }
func mebibytes(n int64) float64            { return float64(n) / (1 << 20) }

// operations records the usual measures of a run: rate, latency, CPU time of the whole system per operation.
func (r *round) operations(c string, run func() (load.Result, error)) error {
	before, err := cell.CPU()
	if err != nil {
		return err
	}
	result, err := run()
	if err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	after, err := cell.CPU()
	if err != nil {
		return err
	}
	r.more(c, "per second", result.PerSecond())
	r.less(c, "median ms", milliseconds(result.Percentile(50)))
	r.less(c, "99 % within ms", milliseconds(result.Percentile(99)))
	r.less(c, "CPU µs each", microseconds(after-before)/float64(result.Count))
	return nil
}

// memory records what is resident now.
func (r *round) memory(c, name string) error {
	m, err := cell.Memory()
	if err != nil {
		return err
	}
	r.less(c, name, mebibytes(m.RSS))
	return nil
}
