// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"kogge.dev/kogge/test/peers/bench/cell"
	"kogge.dev/kogge/test/peers/bench/load"
)

const (
	podsSingle   = 10  // pods one after the other
	podsTogether = 100 // pods at once; a node takes 110 by default
	// podsLimit is how long each case may take.
	podsLimit = 2 * time.Minute
)

// benchPods measures the way of a pod from its creation to Running and Ready, as a watcher sees it, on a node that has the image: for one
// at a time, and for 100 at once; then how soon they are gone, and what the node holds meanwhile. The gate: every pod has an address of
// its own in the cluster's range, and the node says that each container runs.
func benchPods(ctx context.Context, r *round, s *subject, user *load.Client) error {
	archive, err := r.pauseArchive()
	if err != nil {
		return err
	}
	if err := s.await(ctx, "/api/v1/nodes?watch=1", (*event).ready); err != nil {
		return err
	}
	if err := s.until(ctx, func() error { return s.importImages(ctx, archive) }); err != nil {
		return err
	}
	if err := pause(ctx, 5*time.Second); err != nil { // what follows a start is over
		return err
	}
	if err := r.profiled(ctx, s, "one pod", func() error { return r.onePodAtATime(ctx, user) }); err != nil {
		return fmt.Errorf("one pod: %w", err)
	}
	c := fmt.Sprintf("%d pods at once", podsTogether)
	return r.profiled(ctx, s, c, func() error { return r.manyPods(ctx, user, c) })
}

// life is what a watcher saw of pods: when each ran, and when each was gone.
type life struct {
	begin         time.Time
	running, gone map[string]time.Duration
	addresses     map[netip.Addr]string
}

// follow watches the namespace's pods until done says so.
func (l *life) follow(ctx context.Context, user *load.Client, prefix string, done func() bool) error {
	path := podsPath + "?watch=1&labelSelector=batch%3D" + prefix
	_, err := watch(ctx, user, 1, path, func(line []byte) (bool, error) {
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return false, err
		}
		name := e.Object.Metadata.Name
		switch _, seen := l.running[name]; {
		case e.Type == "DELETED":
			l.gone[name] = time.Since(l.begin)
		case !seen && e.Object.Status.Phase == "Running" && e.ready():
			l.running[name] = time.Since(l.begin)
			address, err := netip.ParseAddr(e.Object.Status.PodIP)
			if err != nil {
				return false, fmt.Errorf("address of %s: %w", name, err)
			}
			if other, taken := l.addresses[address]; taken || !netip.MustParsePrefix(podRange).Contains(address) {
				return false, fmt.Errorf("%s has address %s, taken by %q or outside %s", name, address, other, podRange)
			}
			l.addresses[address] = name
		}
		return done(), nil
	})
	return err
}

func newLife() *life {
	return &life{begin: time.Now(), running: map[string]time.Duration{}, gone: map[string]time.Duration{}, addresses: map[netip.Addr]string{}}
}

func (l *life) sorted(of map[string]time.Duration) []time.Duration {
	var out []time.Duration
	for _, d := range of {
		out = append(out, d)
	}
	slices.Sort(out)
	return out
}

// batchPod is a pausePod that life sees.
func batchPod(prefix string, i int) load.Request {
	pod := pausePod(podName(prefix, i))
	pod["metadata"].(object)["labels"] = object{"batch": prefix}
	return load.Request{Method: "POST", Path: podsPath, ContentType: load.JSON, Accept: load.Protobuf, Body: encode(pod)}
}

func (r *round) onePodAtATime(ctx context.Context, user *load.Client) error {
	ctx, cancel := context.WithTimeoutCause(ctx, podsLimit, fmt.Errorf("not finished after %v", podsLimit))
	defer cancel()
	var took []time.Duration
	for i := range podsSingle {
		prefix := fmt.Sprintf("single-%d", i)
		l := newLife()
		if _, err := user.Do(ctx, 0, batchPod(prefix, i)); err != nil {
			return err
		}
		if err := l.follow(ctx, user, prefix, func() bool { return len(l.running) == 1 }); err != nil {
			return err
		}
		took = append(took, l.sorted(l.running)...)
	}
	slices.Sort(took)
	r.less("one pod", "creation to Running, median ms", milliseconds(load.Percentile(took, 50)))
	r.less("one pod", "creation to Running, longest ms", milliseconds(took[len(took)-1]))
	return r.remove(ctx, user, "one pod", podsSingle)
}

func (r *round) manyPods(ctx context.Context, user *load.Client, c string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, podsLimit, fmt.Errorf("not finished after %v", podsLimit))
	defer cancel()
	before, err := cell.Memory()
	if err != nil {
		return err
	}
	used, err := cell.CPU()
	if err != nil {
		return err
	}
	l := newLife()
	created := make(chan error, 1)
	go func() {
		_, err := user.Run(ctx, 4, podsTogether, func(i int) load.Request { return batchPod("many", i) }, nil)
		created <- err
	}()
	if err := l.follow(ctx, user, "many", func() bool { return len(l.running) == podsTogether }); err != nil {
		return fmt.Errorf("%s: %d run: %w", c, len(l.running), err)
	}
	if err := <-created; err != nil {
		return err
	}
	after, err := cell.CPU()
	if err != nil {
		return err
	}
	with, err := cell.Memory()
	if err != nil {
		return err
	}
	times := l.sorted(l.running)
	last := times[len(times)-1]
	r.less(c, "first creation to last Running, ms", milliseconds(last))
	r.more(c, "pods per second", podsTogether/last.Seconds())
	r.less(c, "CPU ms per pod, all components", milliseconds(after-used)/podsTogether)
	r.less(c, "resident MiB per pod, shared pages once", mebibytes(with.PSS-before.PSS)/podsTogether)
	return r.remove(ctx, user, c, podsTogether)
}

// remove deletes all pods and measures until the last is gone.
func (r *round) remove(ctx context.Context, user *load.Client, c string, count int) error {
	if _, err := user.Do(ctx, 0, load.Request{Method: "DELETE", Path: podsPath}); err != nil {
		return err
	}
	begin := time.Now()
	for {
		text, err := user.Do(ctx, 0, load.Request{Method: "GET", Path: podsPath + "?limit=1", Accept: load.JSON})
		if err != nil {
			return err
		}
		var left struct {
			Items []any `json:"items"`
		}
		if err := json.Unmarshal(text, &left); err != nil {
			return err
		}
		if len(left.Items) == 0 {
			break
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	r.less(c, fmt.Sprintf("deletion of %d to the last one gone, ms", count), milliseconds(time.Since(begin)))
	return nil
}
