// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// sample is one node's resource metrics at one moment.
type sample struct {
	at   time.Time // when they were read
	node reading
	pods map[types.NamespacedName]map[string]reading // by container
}

// reading is one thing's counters.
type reading struct {
	cpu    float64 // seconds since the beginning
	cpuAt  time.Time
	memory float64 // working set in bytes
	hasCPU bool
	hasMem bool
	start  time.Time // of a container; zero if unknown
}

func (r reading) complete() bool { return r.hasCPU && r.hasMem }

// parse reads the text format, of which it takes the few families that it needs. Lines that it can't read are an error: half a
// sample would show as idle containers.
func parse(r io.Reader, now time.Time) (*sample, error) {
	out := &sample{at: now, pods: map[types.NamespacedName]map[string]reading{}}
	scan := bufio.NewScanner(r)
	scan.Buffer(make([]byte, 0, 64<<10), 1<<20)
	for n := 1; scan.Scan(); n++ {
		line := strings.TrimSpace(scan.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := out.line(line, now); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return out, scan.Err()
}

func (s *sample) line(text string, now time.Time) error {
	end := strings.IndexAny(text, "{ \t")
	if end <= 0 {
		return fmt.Errorf("%q has no value", text)
	}
	name, rest := text[:end], text[end:]
	set := setterOf(name)
	if set == nil {
		return nil
	}
	labels := map[string]string{}
	if rest[0] == '{' {
		var err error
		if rest, err = parseLabels(rest[1:], labels); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	fields := strings.Fields(rest)
	if len(fields) < 1 || len(fields) > 2 {
		return fmt.Errorf("%s: want a value and a time, got %q", name, rest)
	}
	value, err := strconv.ParseFloat(fields[0], 64)
	if err != nil || math.IsNaN(value) || math.IsInf(value, 0) || value < 0 {
		return fmt.Errorf("%s: value %q is no usage", name, fields[0])
	}
	at := now
	if len(fields) == 2 {
		ms, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return fmt.Errorf("%s: time %q: %w", name, fields[1], err)
		}
		at = time.UnixMilli(ms)
	}
	if strings.HasPrefix(name, "node_") {
		set(&s.node, value, at)
		return nil
	}
	pod := types.NamespacedName{Namespace: labels["namespace"], Name: labels["pod"]}
	if s.pods[pod] == nil {
		s.pods[pod] = map[string]reading{}
	}
	reading := s.pods[pod][labels["container"]]
	set(&reading, value, at)
	s.pods[pod][labels["container"]] = reading
	return nil
}

// setterOf returns where a family's value belongs, nil for families that are not read.
func setterOf(family string) func(r *reading, value float64, at time.Time) {
	switch family {
	case "node_cpu_usage_seconds_total", "container_cpu_usage_seconds_total":
		return func(r *reading, value float64, at time.Time) { r.cpu, r.cpuAt, r.hasCPU = value, at, true }
	case "node_memory_working_set_bytes", "container_memory_working_set_bytes":
		return func(r *reading, value float64, _ time.Time) { r.memory, r.hasMem = value, true }
	case "container_start_time_seconds":
		return func(r *reading, value float64, _ time.Time) {
			whole, fraction := math.Modf(min(value, math.MaxInt32))
			r.start = time.Unix(int64(whole), int64(fraction*1e9))
		}
	}
	return nil
}

// parseLabels reads name="value" pairs up to the closing brace and returns what follows it.
func parseLabels(text string, into map[string]string) (rest string, err error) {
	for {
		text = strings.TrimLeft(text, " \t,")
		if strings.HasPrefix(text, "}") {
			return text[1:], nil
		}
		name, after, ok := strings.Cut(text, "=\"")
		if !ok {
			return "", fmt.Errorf("labels end too early at %q", text)
		}
		value, n, err := unquote(after)
		if err != nil {
			return "", err
		}
		into[name] = value
		text = after[n:]
	}
}

// unquote reads a label value up to its closing quote and returns how many bytes that took.
func unquote(text string) (value string, n int, err error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return b.String(), i + 1, nil
		case c == '\\' && i+1 < len(text):
			i++
			if text[i] == 'n' {
				b.WriteByte('\n')
			} else {
				b.WriteByte(text[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, fmt.Errorf("label value %q has no end", text)
}
