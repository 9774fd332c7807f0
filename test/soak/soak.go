// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// longestQuiet is how long nothing is done before a mark, at most: twice the time for which watch caches remember changes.
	longestQuiet = 150 * time.Second
	// settleLimit is how long all may take to come back before the second mark. Idle connections are kept for a minute and a half.
	settleLimit = 3 * time.Minute
)

// soak is one run.
type soak struct {
	o     options
	m     *machine
	api   *api
	meter *instrument
	churn *churn
	began time.Time
	// clear wipes the live line of a terminal; empty where there is none.
	clear string

	mu      sync.Mutex
	phase   string
	samples []sample
}

func newSoak(ctx context.Context, m *machine) (*soak, error) {
	a, err := newAPI(m.kubeconfig())
	if err != nil {
		return nil, err
	}
	meter, err := newInstrument(m, a)
	if err != nil {
		return nil, err
	}
	c, err := newChurn(m, a)
	if err != nil {
		return nil, err
	}
	s := &soak{o: m.o, m: m, api: a, meter: meter, churn: c, began: time.Now()}
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		s.clear = "\r\x1b[K"
	}
	if _, err := meter.read(ctx); err != nil {
		return nil, fmt.Errorf("measure: %w", err)
	}
	return s, nil
}

// run is the soak's whole course.
func (s *soak) run(ctx context.Context) error {
	watching, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	done := make(chan struct{})
	go func() { defer close(done); stop(s.watch(watching)) }()
	before, samples, after, err := s.course(watching)
	stop(nil)
	<-done
	if cause := context.Cause(watching); !errors.Is(cause, context.Canceled) {
		return cause // it is why the course ended
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%s%s", s.clear, s.churn.report())
	text, failed := table(before, after, samples, s.m.o.only == "")
	fmt.Fprint(os.Stdout, text)
	if err := s.keep(samples); err != nil {
		return err
	}
	if len(failed) == 0 {
		return nil
	}
	if grown, err := grown(s.o.scratch("goroutines-before.txt"), s.o.scratch("goroutines-after.txt")); err == nil {
		fmt.Fprint(os.Stdout, grown)
	}
	return fmt.Errorf("over their bounds: %s; profiles, samples and logs are in %s", strings.Join(failed, ", "), s.o.scratch())
}

// course does what is to be measured, and returns both marks and what was sampled between them.
func (s *soak) course(ctx context.Context) (before reading, samples []sample, after reading, err error) {
	s.enter("warm-up")
	if err := s.churn.run(ctx, s.o.warm); err != nil {
		return before, nil, after, fmt.Errorf("warm-up: %w", err)
	}
	s.enter("quiet")
	if err := s.emptied(ctx); err != nil {
		return before, nil, after, err
	}
	if before, err = s.mark(ctx, "before"); err != nil {
		return before, nil, after, err
	}
	s.enter("churn")
	if err := s.churn.run(ctx, s.o.churn); err != nil {
		return before, nil, after, fmt.Errorf("churn: %w", err)
	}
	samples = s.enter("quiet")
	if err := s.emptied(ctx); err != nil {
		return before, nil, after, err
	}
	for end := time.Now().Add(settleLimit); ; {
		now, err := s.meter.read(ctx)
		if err != nil {
			return before, nil, after, err
		}
		if returned(before, now) || time.Now().After(end) {
			break
		}
		if err := wait(ctx, time.Second); err != nil {
			return before, nil, after, err
		}
	}
	after, err = s.mark(ctx, "after")
	return before, samples, after, err
}

// enter begins a phase and returns the samples of the one that ends.
func (s *soak) enter(phase string) []sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.samples
	s.phase, s.samples = phase, nil
	return old
}

// emptied waits until nothing is left of what was churned, and some time more.
func (s *soak) emptied(ctx context.Context) error {
	if err := s.awaitNothing(ctx); err != nil {
		return err
	}
	return wait(ctx, min(s.o.churn/8, longestQuiet))
}

func (s *soak) awaitNothing(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settleLimit, fmt.Errorf("not within %v", settleLimit))
	defer cancel()
	for _, kind := range []string{"pods/v1", "persistentvolumes/v1", "customresourcedefinitions.apiextensions.k8s.io/v1"} {
		if err := count(ctx, s.api.built(kind), "", "", 0); err != nil {
			return err
		}
	}
	return until(ctx, "the end of all namespaces", func() error {
		list, err := s.api.built("namespaces/v1").List(ctx, "", metav1.ListOptions{})
		for _, item := range list.Items {
			if strings.HasPrefix(item.GetName(), "soak-") {
				err = errors.Join(err, fmt.Errorf("%s is there", item.GetName()))
			}
		}
		return err
	})
}

// Profiles of kogge that are kept at each mark, with the form in which they are asked for.
var profiles = map[string]string{"goroutines-%s.txt": "goroutine?debug=1", "heap-%s.pprof": "heap?gc=1"}

// mark reads the node after a collection of garbage, and keeps kogge's profiles.
func (s *soak) mark(ctx context.Context, name string) (reading, error) {
	for file, query := range profiles {
		text, err := s.api.raw(ctx, "/debug/pprof/"+query)
		if err != nil {
			return reading{}, err
		}
		if err := os.WriteFile(s.o.scratch(fmt.Sprintf(file, name)), text, 0o644); err != nil {
			return reading{}, err
		}
	}
	text, err := s.api.raw(ctx, "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return reading{}, err
	}
	r, err := s.meter.read(ctx)
	if err != nil {
		return r, err
	}
	r.heap, err = heapOf(text)
	return r, err
}

var heapLine = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`)

// heapOf reads the bytes in use at the end of a profile of the heap.
func heapOf(profile []byte) (int64, error) {
	found := heapLine.FindSubmatch(profile)
	if found == nil {
		return 0, errors.New("the profile of the heap has no HeapAlloc")
	}
	return strconv.ParseInt(string(found[1]), 10, 64)
}

// watch samples the node until ctx ends, and prints a line now and then: with each sample on a terminal, else twice a minute.
func (s *soak) watch(ctx context.Context) error {
	ticker := time.NewTicker(s.o.every)
	defer ticker.Stop()
	var printed time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		r, err := s.meter.read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("measure: %w", err)
		}
		s.mu.Lock()
		s.samples = append(s.samples, sample{at: time.Now(), reading: r})
		phase := s.phase
		s.mu.Unlock()
		line := fmt.Sprintf("%s %s, %d rounds: kogge %d MiB, %d fds, %d goroutines; containerd %d MiB, %d fds; %d shims; %d mounts, %d netns, %d links, %d cgroups, %d rules",
			time.Since(s.began).Round(time.Second), phase, s.churn.rounds(), r.kogge.resident/mebi, r.kogge.descriptors, r.goroutines,
			r.containerd.resident/mebi, r.containerd.descriptors, r.shims.processes, r.mounts, r.namespaces, r.links, r.cgroups, r.rules)
		switch {
		case s.clear != "":
			fmt.Fprint(os.Stdout, s.clear+line)
		case time.Since(printed) >= 30*time.Second:
			printed = time.Now()
			fmt.Fprintln(os.Stdout, line)
		}
	}
}

// keep writes the samples, a line each.
func (s *soak) keep(samples []sample) error {
	var out bytes.Buffer
	out.WriteString("seconds")
	for _, q := range quantities {
		out.WriteString("\t" + q.name)
	}
	for _, one := range samples {
		fmt.Fprintf(&out, "\n%.1f", one.at.Sub(samples[0].at).Seconds())
		for _, q := range quantities {
			fmt.Fprintf(&out, "\t%.6g", q.of(one.reading))
		}
	}
	out.WriteString("\n")
	return os.WriteFile(s.o.scratch("samples.tsv"), out.Bytes(), 0o644)
}
