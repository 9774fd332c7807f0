// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package metrics serves metrics.k8s.io/v1beta1, what nodes and pods use of CPU and memory, computed from the resource metrics that
// every kubelet exposes.
//
// It samples on demand: an idle cluster is not scraped at all. CPU use is the growth of a cumulative counter between two samples.
// A reader who finds the last sample too old causes a new one; the first reader after a pause waits for two.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Config of a Server. All fields but the durations are required.
type Config struct {
	// Scrape reads a kubelet's /metrics/resource.
	Scrape func(ctx context.Context, node string) (io.ReadCloser, error)
	// Nodes and Pods list what there is; Pods of one namespace, or of all if it is empty. The objects are never changed.
	Nodes func() []*corev1.Node
	Pods  func(namespace string) []*corev1.Pod
	// Log is required.
	Log *slog.Logger

	// Fresh is how old a sample may be that answers a request; 0 means 10 s.
	Fresh time.Duration
	// Pause is the time between two samples when the first is all there is; 0 means 1 s.
	Pause time.Duration
	// Timeout bounds one scrape; 0 means 5 s.
	Timeout time.Duration
}

// maxAttempts bounds how often a node is asked for one answer.
const maxAttempts = 20

// maxWindow is the longest time over which CPU use is averaged: an older sample says little about now.
const maxWindow = 2 * time.Minute

// maxScrape bounds the size of one node's metrics, and maxScrapes how many nodes are asked at once.
const (
	maxScrape  = 16 << 20
	maxScrapes = 16
)

// Server computes usage. It is an http.Handler for /apis/metrics.k8s.io.
type Server struct {
	config Config
	codecs codecs

	mu    sync.Mutex
	nodes map[string]*node
}

// node holds what is known of one node.
type node struct {
	// scrape is held while the node is asked, so that concurrent readers cause one scrape.
	scrape sync.Mutex

	mu           sync.Mutex
	last, before *sample // before is older than last; either may be nil
}

// New makes a server.
func New(config Config) (*Server, error) {
	if config.Scrape == nil || config.Nodes == nil || config.Pods == nil || config.Log == nil {
		return nil, errors.New("metrics: Scrape, Nodes, Pods and Log are required")
	}
	if config.Fresh == 0 {
		config.Fresh = 10 * time.Second
	}
	if config.Pause == 0 {
		config.Pause = time.Second
	}
	if config.Timeout == 0 {
		config.Timeout = 5 * time.Second
	}
	return &Server{config: config, codecs: newCodecs(), nodes: map[string]*node{}}, nil
}

// pair is two samples of a node, in order.
type pair struct{ before, last *sample }

// sample brings the named nodes up to date and returns what is known of them. Nodes that can't be asked are missing.
func (s *Server) sample(ctx context.Context, names []string) map[string]pair {
	var mu sync.Mutex
	out := make(map[string]pair, len(names))
	var group errgroup.Group
	group.SetLimit(maxScrapes)
	for _, name := range names {
		group.Go(func() error {
			p, err := s.refresh(ctx, name)
			if err != nil {
				s.config.Log.Debug("node's metrics not read", "node", name, "err", err)
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			out[name] = p
			return nil
		})
	}
	_ = group.Wait() // no function fails
	return out
}

func (s *Server) node(name string) *node {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[name]
	if n == nil {
		n = &node{}
		s.nodes[name] = n
	}
	return n
}

// forget drops nodes that no longer exist.
func (s *Server) forget(exist map[string]struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.nodes {
		if _, ok := exist[name]; !ok {
			delete(s.nodes, name)
		}
	}
}

// refresh returns two samples of a node, the later one fresh.
func (s *Server) refresh(ctx context.Context, name string) (pair, error) {
	n := s.node(name)
	n.scrape.Lock()
	defer n.scrape.Unlock()
	for range maxAttempts {
		n.mu.Lock()
		p := pair{n.before, n.last}
		n.mu.Unlock()
		now := time.Now()
		fresh := p.last != nil && now.Sub(p.last.at) < s.config.Fresh
		if fresh && p.before != nil {
			return p, nil
		}
		if fresh {
			select {
			case <-ctx.Done():
				return pair{}, ctx.Err()
			case <-time.After(s.config.Pause):
			}
		}
		next, err := s.ask(ctx, name)
		if err != nil {
			return pair{}, err
		}
		n.add(next)
	}
	return pair{}, fmt.Errorf("scrape %s: its figures do not advance", name)
}

// add makes a sample the last one. Samples too far apart don't form a window, nor do those between which a kubelet with figures of
// its own pace did not read its counters again.
func (n *node) add(next *sample) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last == nil || next.node.cpuAt.After(n.last.node.cpuAt) {
		n.before = n.last
	}
	n.last = next
	if n.before != nil && next.at.Sub(n.before.at) > maxWindow {
		n.before = nil
	}
}

func (s *Server) ask(ctx context.Context, name string) (*sample, error) {
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	body, err := s.config.Scrape(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("scrape %s: %w", name, err)
	}
	defer body.Close()
	out, err := parse(io.LimitReader(body, maxScrape), time.Now())
	if err != nil {
		return nil, fmt.Errorf("scrape %s: %w", name, err)
	}
	return out, nil
}

// usage is what something used over a window.
type usage struct {
	cores  float64
	bytes  float64
	at     time.Time
	window time.Duration
}

// over computes the use between two readings; ok is false if they don't allow it: something is missing, no time passed, or the
// counter started again.
func over(before, last reading) (usage, bool) {
	if !last.complete() {
		return usage{}, false
	}
	from, value := before.cpuAt, before.cpu
	if !before.complete() || last.cpu < before.cpu || !last.cpuAt.After(before.cpuAt) {
		// A container that started inside the window: since its start.
		if last.start.IsZero() || !last.cpuAt.After(last.start) || !before.cpuAt.IsZero() && last.start.Before(before.cpuAt) {
			return usage{}, false
		}
		from, value = last.start, 0
	}
	window := last.cpuAt.Sub(from)
	return usage{cores: (last.cpu - value) / window.Seconds(), bytes: last.memory, at: last.cpuAt, window: window}, true
}

// pod computes a pod's use by container; ok is false unless every container has figures.
func (p pair) pod(name types.NamespacedName) (map[string]usage, bool) {
	last := p.last.pods[name]
	if len(last) == 0 {
		return nil, false
	}
	out := make(map[string]usage, len(last))
	for container, r := range last {
		u, ok := over(p.before.pods[name][container], r)
		if !ok {
			return nil, false
		}
		out[container] = u
	}
	return out, true
}
