// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"kogge.dev/kogge/test/peers/bench/cell"
	"kogge.dev/kogge/test/peers/bench/table"
	"kogge.dev/kogge/test/peers/upstream"
)

// session is one run of the command: a set of benchmarks, or with system set, one round in a cell.
type session struct {
	scratch, kogge, peers string
	order                 string
	fresh                 bool
	document              string
	idle                  time.Duration
	profile               string
	system                string
}

// benchmark is one file of this package.
type benchmark struct {
	name string
	// programs of upstream that it needs.
	programs []string
	// run measures one round; what it measured before an error counts.
	run func(ctx context.Context, r *round) error
	// limit on a round's duration.
	limit time.Duration
	// most is how many rounds of the order are run; 0 means all. A long benchmark has three, or the whole would take far longer than an hour.
	most int
}

// benchmarks in the order in which they run.
func benchmarks() []benchmark {
	control := []string{upstream.Etcd, upstream.KubeAPIServer, upstream.KubeControllerManager, upstream.KubeScheduler}
	node := append(slices.Clone(control), upstream.Kubelet, upstream.KubeProxy)
	return []benchmark{
		{name: "start", programs: node, run: benchStart, limit: 8 * time.Minute},
		{name: "writes", programs: control, run: started(plane, writeConns, benchWrites), limit: 4 * time.Minute},
		{name: "lists", programs: control, run: started(plane, 4, benchLists), limit: 6 * time.Minute},
		{name: "watches", programs: control, run: started(plane, watchConns, benchWatches), limit: 4 * time.Minute},
		{name: "scheduling", programs: control, run: started(plane, 4, benchScheduling), limit: 12 * time.Minute, most: 3},
		{name: "pods", programs: node, run: started(whole, 4, benchPods), limit: 5 * time.Minute},
		{name: "services", programs: []string{upstream.Etcd, upstream.KubeAPIServer, upstream.KubeProxy}, run: benchServices, limit: 5 * time.Minute},
		{name: "cascade", programs: control, run: started(plane, 4, benchCascade), limit: 3 * time.Minute},
		{name: "dns", programs: []string{upstream.Etcd, upstream.KubeAPIServer, upstream.CoreDNS}, run: benchNames, limit: 3 * time.Minute},
	}
}

// all runs the benchmarks named and prints one table.
func (s *session) all(ctx context.Context, only string) error {
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("cells need root")
	}
	for _, path := range []*string{&s.scratch, &s.kogge} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if err := s.build(ctx, chosen); err != nil {
		return err
	}
	what, err := identity(s.kogge, "/proc/self/exe")
	if err != nil {
		return err
	}
	var rows []table.Row
	var failures []string
	for _, b := range chosen {
		rounds, err := s.rounds(ctx, b, what)
		if err != nil {
			return fmt.Errorf("benchmark %s: %w", b.name, err)
		}
		rows = append(rows, table.Rows(b.name, rounds)...)
		failures = append(failures, table.Failures(b.name, rounds)...)
	}
	return s.publish(ctx, rows, failures)
}

// build makes upstream's programs where they are missing.
func (s *session) build(ctx context.Context, chosen []benchmark) error {
	var programs []string
	for _, b := range chosen {
		programs = append(programs, b.programs...)
	}
	slices.Sort(programs)
	built, err := upstream.Build(ctx, filepath.Join(s.scratch, "upstream"), os.Stderr, slices.Compact(programs)...)
	if err != nil {
		return err
	}
	s.peers, err = filepath.Abs(string(built))
	return err
}

func choose(only string) ([]benchmark, error) {
	all := benchmarks()
	if only == "" {
		return all, nil
	}
	var chosen []benchmark
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(b benchmark) bool { return b.name == name })
		if i < 0 {
			var known []string
			for _, b := range all {
				known = append(known, b.name)
			}
			return nil, fmt.Errorf("no benchmark %q; there are %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// identity is a digest of the programs that run: rounds of other ones don't count.
func identity(files ...string) (string, error) {
	sum := sha256.New()
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return "", err
		}
		_, err = io.Copy(sum, file)
		file.Close()
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:6]), nil
}

// rounds runs what is missing of a benchmark's rounds.
func (s *session) rounds(ctx context.Context, b benchmark, what string) ([]table.Round, error) {
	dir := filepath.Join(s.scratch, "rounds", what, b.name)
	if s.fresh {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var out []table.Round
	order := strings.Split(s.order, ",")
	if b.most > 0 && len(order) > b.most {
		order = order[:b.most]
	}
	for i, system := range order {
		path := filepath.Join(dir, strconv.Itoa(i)+"-"+system+".json")
		r, err := readRound(path)
		if errors.Is(err, fs.ErrNotExist) {
			started := time.Now()
			if r, err = s.inCell(ctx, b, system); err != nil {
				return nil, err
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			fmt.Fprintf(os.Stderr, "%s, round %d, %s: %.0f s %s\n", b.name, i+1, system, time.Since(started).Seconds(), r.Failed)
			err = writeRound(path, r)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// inCell runs one round in a new cell.
func (s *session) inCell(ctx context.Context, b benchmark, system string) (table.Round, error) {
	r := table.Round{System: system}
	folder := filepath.Join(s.scratch, "cell")
	if err := errors.Join(os.RemoveAll(folder), os.MkdirAll(folder, 0o755)); err != nil {
		return r, err
	}
	limited, cancel := context.WithTimeout(ctx, b.limit+time.Minute)
	defer cancel()
	runErr := cell.Run(limited, cell.Config{Folder: folder, Output: os.Stderr, Args: []string{
		"-round", b.name, "-system", system, "-kogge", s.kogge, "-peers", s.peers, "-idle", s.idle.String(), "-profile", s.profile,
	}})
	r, err := readRound(filepath.Join(folder, resultFile))
	if err != nil {
		return table.Round{System: system}, errors.Join(runErr, err)
	}
	if runErr != nil && r.Failed == "" {
		r.Failed = runErr.Error()
	}
	if r.Failed == "" && s.profile == "" {
		err = os.RemoveAll(folder)
	}
	return r, err
}

func readRound(path string) (r table.Round, err error) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	return r, err
}

func writeRound(path string, r table.Round) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// The lines of the document between which the table lies.
const (
	tableBegin = "<!-- make bench writes from here -->\n"
	tableEnd   = "<!-- to here -->\n"
)

// publish prints the table, and puts it into the document.
func (s *session) publish(ctx context.Context, rows []table.Row, failures []string) error {
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s, commit %s, %s\n\n", time.Now().Format(time.DateOnly), commit(ctx), machine())
	if err := table.Write(&text, rows); err != nil {
		return err
	}
	for _, f := range failures {
		fmt.Fprintf(&text, "\nNot measured: %s\n", f)
	}
	if _, err := os.Stdout.Write(text.Bytes()); err != nil || s.document == "" {
		return err
	}
	document, err := os.ReadFile(s.document)
	if err != nil {
		return err
	}
	before, rest, begins := bytes.Cut(document, []byte(tableBegin))
	_, after, ends := bytes.Cut(rest, []byte(tableEnd))
	if !begins || !ends {
		return fmt.Errorf("%s has no place for the table", s.document)
	}
	return os.WriteFile(s.document, slices.Concat(before, []byte(tableBegin), text.Bytes(), []byte(tableEnd), after), 0o644)
}

func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// machine says on what was measured.
func machine() string {
	model, kernel := "", ""
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
			}
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = strings.TrimSpace(string(text))
	}
	load, _ := os.ReadFile("/proc/loadavg") // of interest, not needed
	return fmt.Sprintf("%d CPUs (%s), Linux %s, load at the end %s", runtime.NumCPU(), model, kernel, strings.Join(strings.Fields(string(load))[:min(3, len(strings.Fields(string(load))))], " "))
}
