// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"kogge.dev/kogge/test/peers/bench/cell"
)

// benchStart measures a cold start on an empty data folder: control plane and node. Upstream has its keys, certificates and
// configuration made beforehand and all its programs executed at once; kogge makes its own. The image is imported while no
// clock runs. The gate: the pod that runs has an address of the cluster's range, and the kubelet tells of its container.
func benchStart(ctx context.Context, r *round) error {
	archive, err := r.pauseArchive()
	if err != nil {
		return err
	}
	s, err := r.start(ctx, whole)
	if err != nil {
		return err
	}
	defer s.stop()
	const c = "cold start"
	if err := s.await(ctx, "/api/v1/nodes?watch=1", (*event).ready); err != nil {
		return err
	}
	nodeReady := time.Since(s.started)
	r.less(c, "exec to /readyz, ms", milliseconds(s.ready))
	r.less(c, "exec to node Ready, ms", milliseconds(nodeReady))
	used, err := cell.CPU()
	if err != nil {
		return err
	}
	r.less(c, "CPU ms to node Ready", milliseconds(used))
	importing := func() error { return s.importImages(ctx, archive) }
	if err := s.until(ctx, importing); err != nil {
		return err
	}
	first, err := s.firstPod(ctx)
	if err != nil {
		return err
	}
	r.less(c, "first pod, creation to Running, ms", milliseconds(first))
	r.less(c, "exec to node Ready and that, ms", milliseconds(nodeReady+first))
	return r.footprint(ctx, "idle, one pod")
}

// firstPod creates a pod and returns how long it took to run.
func (s *subject) firstPod(ctx context.Context) (time.Duration, error) {
	account := func() error {
		var o object
		return s.get(ctx, "/api/v1/namespaces/default/serviceaccounts/default", &o)
	}
	if err := s.until(ctx, account); err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := s.create(ctx, "/api/v1/namespaces/default/pods", pausePod("first")); err != nil {
		return 0, err
	}
	var last event
	err := s.await(ctx, "/api/v1/namespaces/default/pods?watch=1", func(e *event) bool {
		last = *e
		return e.Object.Status.Phase == "Running" && e.ready()
	})
	took := time.Since(begin)
	if err == nil && last.Object.Status.PodIP == "" {
		err = errors.New("the pod runs without an address")
	}
	return took, err
}

// pausePod is the smallest pod: one container of pauseImage.
func pausePod(name string) object {
	return object{
		"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": name},
		"spec": object{"terminationGracePeriodSeconds": 1, "containers": []object{{"name": "main", "image": pauseImage, "imagePullPolicy": "Never"}}},
	}
}

// footprint waits until a system has settled and records what it holds and uses while nothing happens.
func (r *round) footprint(ctx context.Context, c string) error {
	if err := pause(ctx, 15*time.Second); err != nil {
		return err
	}
	before, err := cell.CPU()
	if err != nil {
		return err
	}
	if err := pause(ctx, r.idle); err != nil {
		return err
	}
	after, err := cell.CPU()
	if err != nil {
		return err
	}
	m, err := cell.Memory()
	if err != nil {
		return err
	}
	r.less(c, "% of a CPU", 100*float64(after-before)/float64(r.idle))
	r.less(c, "resident MiB", mebibytes(m.RSS))
	r.less(c, "resident MiB, shared pages once", mebibytes(m.PSS))
	r.less(c, "processes", float64(m.Processes))
	note := strings.Builder{}
	note.WriteString(c + ", resident MiB:")
	for _, name := range slices.Sorted(maps.Keys(m.ByName)) {
		fmt.Fprintf(&note, " %s %.0f", name, mebibytes(m.ByName[name]))
	}
	r.result.Notes = append(r.result.Notes, note.String())
	return nil
}
