// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package eviction decides when a node runs out of something and which pod is ended for it. It has no clock and does no I/O:
// samples go in, decisions come out.
package eviction

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal is something that a node can run out of.
type Signal string

// The signals.
const (
	MemoryAvailable   Signal = "memory.available"
	NodeFsAvailable   Signal = "nodefs.available"
	NodeFsInodesFree  Signal = "nodefs.inodesFree"
	ImageFsAvailable  Signal = "imagefs.available"
	ImageFsInodesFree Signal = "imagefs.inodesFree"
	PIDAvailable      Signal = "pid.available"
)

// Disk reports whether freeing disk helps.
func (s Signal) Disk() bool {
	return strings.HasPrefix(string(s), "nodefs.") || strings.HasPrefix(string(s), "imagefs.")
}

// condition is what the node shows when the signal's threshold is met.
func (s Signal) condition() corev1.NodeConditionType {
	switch s {
	case MemoryAvailable:
		return corev1.NodeMemoryPressure
	case PIDAvailable:
		return corev1.NodePIDPressure
	default:
		return corev1.NodeDiskPressure
	}
}

// resource names what is short, for messages.
func (s Signal) resource() string {
	switch s {
	case MemoryAvailable:
		return "memory"
	case PIDAvailable:
		return "pids"
	case NodeFsInodesFree, ImageFsInodesFree:
		return "inodes"
	case NodeFsAvailable, ImageFsAvailable:
	}
	return "ephemeral-storage"
}

// Observation is one sample, in bytes, inodes or processes.
type Observation struct{ Available, Capacity uint64 }

// Threshold says below how much of a signal the node acts.
type Threshold struct {
	Signal Signal
	// Percent of the capacity, or Quantity if that is nil.
	Percent  float64
	Quantity *resource.Quantity
	// Soft thresholds act only after they were met for Grace.
	Soft  bool
	Grace time.Duration
	// reclaim is how much more than the threshold must be free for pressure to end.
	reclaim *Threshold
}

// Value returns the threshold for a capacity.
func (t *Threshold) Value(capacity uint64) uint64 {
	if t.Quantity != nil {
		return uint64(t.Quantity.Value())
	}
	return uint64(float64(capacity) * t.Percent / 100)
}

// Parse reads the thresholds of a configuration.
func Parse(hard, soft, grace, reclaim map[string]string) ([]Threshold, error) {
	out, err := parseAll(hard, reclaim)
	if err != nil {
		return nil, err
	}
	softly, err := parseAll(soft, reclaim)
	if err != nil {
		return nil, err
	}
	for _, t := range softly {
		t.Soft = true
		if t.Grace, err = time.ParseDuration(grace[string(t.Signal)]); err != nil || t.Grace <= 0 {
			return nil, fmt.Errorf("grace period must be specified for the soft eviction threshold %v", t.Signal)
		}
		out = append(out, t)
	}
	// Memory first, then hard before soft, then by name: the order in which pressure is relieved.
	slices.SortFunc(out, func(a, b Threshold) int {
		rank := func(t Threshold) string {
			r := "1"
			if t.Signal == MemoryAvailable {
				r = "0"
			}
			return r + strconv.FormatBool(t.Soft) + string(t.Signal)
		}
		return strings.Compare(rank(a), rank(b))
	})
	return out, nil
}

// parseAll reads one list of thresholds, each with the least that is to be reclaimed. A threshold of zero is turned off.
func parseAll(list, reclaim map[string]string) ([]Threshold, error) {
	var out []Threshold
	for name, value := range list {
		t, err := parse(name, value)
		if err != nil {
			return nil, err
		}
		if t.Quantity == nil && t.Percent == 0 {
			continue
		}
		if r, ok := reclaim[name]; ok {
			least, err := parse(name, r)
			if err != nil {
				return nil, err
			}
			t.reclaim = &least
		}
		out = append(out, t)
	}
	return out, nil
}

func parse(name, value string) (Threshold, error) {
	t := Threshold{Signal: Signal(name)}
	switch t.Signal {
	case MemoryAvailable, NodeFsAvailable, NodeFsInodesFree, ImageFsAvailable, ImageFsInodesFree, PIDAvailable:
	default:
		return t, fmt.Errorf("unsupported eviction signal %v", name)
	}
	if percent, ok := strings.CutSuffix(value, "%"); ok {
		f, err := strconv.ParseFloat(percent, 64)
		if err != nil || f < 0 || f > 100 {
			return t, fmt.Errorf("eviction percentage threshold %v must be between 0%% and 100%%: %s", name, value)
		}
		t.Percent = f
		return t, nil
	}
	q, err := resource.ParseQuantity(value)
	if err != nil || q.Sign() < 0 {
		return t, fmt.Errorf("eviction threshold %v: %q is not a quantity", name, value)
	}
	if !q.IsZero() {
		t.Quantity = &q
	}
	return t, nil
}

// Met is a threshold that is met and to be acted upon.
type Met struct {
	Signal      Signal
	Resource    string
	Threshold   *Threshold
	Soft        bool
	Observation Observation
}

// State follows the thresholds of one node over time.
type State struct {
	thresholds []Threshold
	// transition is for how long a pressure condition stays after its cause.
	transition time.Duration
	// since says when each threshold was first met, by index; absent if it is not.
	since map[int]time.Time
	last  map[corev1.NodeConditionType]time.Time
	now   time.Time
}

// New makes the state of a node that has not been sampled.
func New(thresholds []Threshold, transition time.Duration) *State {
	return &State{thresholds: thresholds, transition: transition, since: map[int]time.Time{}, last: map[corev1.NodeConditionType]time.Time{}}
}

// Observe takes a sample and returns the first threshold to act upon, or nil.
func (s *State) Observe(sample map[Signal]Observation, now time.Time) *Met {
	s.now = now
	var act *Met
	for i := range s.thresholds {
		t := &s.thresholds[i]
		o, ok := sample[t.Signal]
		if !ok {
			continue
		}
		limit := t.Value(o.Capacity)
		began, active := s.since[i]
		if active && t.reclaim != nil {
			limit += t.reclaim.Value(o.Capacity)
		}
		if o.Available >= limit {
			delete(s.since, i)
			continue
		}
		if !active {
			began = now
			s.since[i] = now
		}
		s.last[t.Signal.condition()] = now
		if t.Soft && now.Sub(began) < t.Grace {
			continue
		}
		if act == nil {
			act = &Met{Signal: t.Signal, Resource: t.Signal.resource(), Threshold: t, Soft: t.Soft, Observation: o}
		}
	}
	return act
}

// Pressure reports whether the node shows a pressure condition.
func (s *State) Pressure(t corev1.NodeConditionType) bool {
	last, ok := s.last[t]
	return ok && s.now.Sub(last) < max(s.transition, 1)
}

// Candidate is a pod that may be ended.
type Candidate struct {
	ID       string
	Pod      *corev1.Pod
	Priority int32
	QOS      corev1.PodQOSClass
	// Memory and Disk are bytes used, Pids processes.
	Memory, Disk, Pids uint64
}

// Victim is the pod to end and what to say about it.
type Victim struct {
	ID, Message string
}

// Choose picks the pod that uses most of what is short beyond its request, the least important first.
func Choose(candidates []Candidate, met *Met) *Victim {
	if len(candidates) == 0 {
		return nil
	}
	type ranked struct {
		Candidate
		used, request uint64
	}
	list := make([]ranked, 0, len(candidates))
	for _, c := range candidates {
		used, request := c.usage(met.Signal)
		list = append(list, ranked{c, used, request})
	}
	slices.SortStableFunc(list, func(a, b ranked) int {
		overA, overB := a.used > a.request, b.used > b.request
		switch {
		case overA != overB:
			if overA {
				return -1
			}
			return 1
		case a.Priority != b.Priority:
			return int(a.Priority) - int(b.Priority)
		}
		beyondA, beyondB := int64(a.used)-int64(a.request), int64(b.used)-int64(b.request)
		switch {
		case beyondA > beyondB:
			return -1
		case beyondA < beyondB:
			return 1
		}
		return 0
	})
	first := list[0]
	var message strings.Builder
	fmt.Fprintf(&message, "The node was low on resource: %s. Threshold quantity: %s, available: %s. ", met.Resource,
		quantity(met, met.Threshold.Value(met.Observation.Capacity)), quantity(met, met.Observation.Available))
	if first.used > first.request && met.Signal != PIDAvailable {
		for i := range first.Pod.Spec.Containers {
			c := &first.Pod.Spec.Containers[i]
			name := corev1.ResourceName(met.Resource)
			request := c.Resources.Requests[name]
			fmt.Fprintf(&message, "Container %s was using %s, request is %s, has larger consumption of %s. ", c.Name, quantity(met, first.used), request.String(), name)
			break
		}
	}
	return &Victim{ID: first.ID, Message: message.String()}
}

func quantity(met *Met, n uint64) string {
	if met.Signal == PIDAvailable || met.Resource == "inodes" {
		return strconv.FormatUint(n, 10)
	}
	return resource.NewQuantity(int64(n), resource.BinarySI).String()
}

// usage returns what a pod uses of what is short, and what it asked for.
func (c *Candidate) usage(s Signal) (used, request uint64) {
	sum := func(name corev1.ResourceName) uint64 {
		total := int64(0)
		for i := range c.Pod.Spec.Containers {
			q := c.Pod.Spec.Containers[i].Resources.Requests[name]
			total += q.Value()
		}
		return uint64(total)
	}
	switch s {
	case MemoryAvailable:
		return c.Memory, sum(corev1.ResourceMemory)
	case PIDAvailable:
		return c.Pids, 0
	default:
		return c.Disk, sum(corev1.ResourceEphemeralStorage)
	}
}
