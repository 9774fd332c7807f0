// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
)

// Decision is the outcome of a cycle: a node, or why there is none.
type Decision struct {
	// Node is where the pod goes; empty when it fits nowhere.
	Node string
	// Plan is what to write before the pod is bound; nil for nothing.
	Plan *Plan
	// Fit says why there is no node; nil when there is one or the cycle failed.
	Fit *Fit
	// Preemption is what would make room; nil for nothing.
	Preemption *Preemption
	// Clear asks to take back the pod's nomination, which can't help any more.
	Clear bool
	// Err is why no judgement was possible; the pod is to be tried again.
	Err string
}

// Cycle is the search of a node for one pod.
type Cycle struct {
	Snapshot *Snapshot
	Pod      *Pod
	Profile  *Profile
	filters  []activeFilter
	class    *class
}

type activeFilter struct {
	local bool
	Filter
}

// Schedule finds the node for a pod.
func (p *Profile) Schedule(s *Snapshot, pod *Pod, memory *Memory) Decision {
	if len(s.Nodes) == 0 {
		return Decision{Fit: &Fit{Plugins: []string{unschedulable}, After: noNodes}}
	}
	if pod.Invalid != nil {
		return Decision{Err: pod.Invalid.Error()}
	}
	c := &Cycle{Snapshot: s, Pod: pod, Profile: p, class: memory.class(p, s, pod)}
	nodes, fit, failed := c.feasible()
	if failed != nil {
		return Decision{Err: failed.Message()}
	}
	if len(nodes) == 0 {
		return c.preempt(fit)
	}
	best, failed := c.choose(nodes, memory)
	if failed != nil {
		return Decision{Err: failed.Message()}
	}
	return Decision{Node: best.Name, Plan: c.reserve(best)}
}

const noNodes = "no nodes available to schedule pods"

// broken says where a plugin could not judge.
func broken(status *Status, where string) *Status {
	return &Status{Code: Failed, Plugin: status.Plugin, Reasons: []string{where + ": " + status.Message()}}
}

// begin asks every filter plugin about the pod as such. It returns the nodes that come into question.
func (c *Cycle) begin(fit *Fit) (nodes []*Node, failed *Status) {
	var names sets.Set[string]
	var narrowed []string
	for _, plugin := range c.Profile.Filters {
		filter, status := plugin.Filter(c.Snapshot, c.Pod)
		if status != nil {
			if status.Code == Failed {
				return nil, broken(status, `running PreFilter plugin "`+plugin.Name()+`"`)
			}
			fit.All = status
			fit.refusedBy(status.Plugin)
			return nil, nil
		}
		if filter == nil {
			continue
		}
		_, local := filter.(Local)
		c.filters = append(c.filters, activeFilter{local: local, Filter: filter})
		candidates, ok := filter.(Candidates)
		if !ok {
			continue
		}
		some := candidates.Candidates()
		if some == nil {
			continue
		}
		narrowed = append(narrowed, plugin.Name())
		if names == nil {
			names = some
		} else {
			names = names.Intersection(some)
		}
		if len(names) == 0 {
			fit.All = RefuseForGood(plugin.Name(), noneLeft(narrowed))
			fit.refusedBy(narrowed...)
			return nil, nil
		}
	}
	if names == nil {
		return c.Snapshot.Nodes, nil
	}
	fit.Rest = RefuseForGood("", "node(s) didn't satisfy plugin(s) ["+strings.Join(narrowed, " ")+"]")
	for _, name := range sets.List(names) {
		if n := c.Snapshot.Node(name); n != nil {
			nodes = append(nodes, n)
		}
	}
	fit.refusedBy(narrowed...)
	return nodes, nil
}

func noneLeft(plugins []string) string {
	if len(plugins) == 1 {
		return "node(s) didn't satisfy plugin " + plugins[0]
	}
	return "node(s) didn't satisfy plugin(s) [" + strings.Join(plugins, " ") + "] simultaneously"
}

// feasible returns the nodes that every filter accepts.
func (c *Cycle) feasible() (nodes []*Node, fit *Fit, failed *Status) {
	fit = &Fit{Nodes: len(c.Snapshot.Nodes), ByNode: map[string]*Status{}}
	candidates, failed := c.begin(fit)
	if failed != nil || fit.All != nil {
		return nil, fit, failed
	}
	if name := c.Nomination(); name != "" {
		if n := c.Snapshot.Node(name); n != nil && slices.Contains(candidates, n) && c.CheckWithNominated(c.filters, n) == nil {
			return []*Node{n}, fit, nil
		}
	}
	nodes = make([]*Node, 0, len(candidates))
	var refused []*Status // by candidate, nil where it is accepted
	for i, n := range candidates {
		status := c.CheckWithNominated(c.filters, n)
		switch {
		case status == nil:
			nodes = append(nodes, n)
		case status.Code == Failed:
			return nil, fit, broken(status, `running "`+status.Plugin+`" filter plugin`)
		default:
			if refused == nil {
				refused = make([]*Status, len(candidates))
			}
			refused[i] = status
		}
	}
	if len(nodes) > 0 {
		return nodes, fit, nil
	}
	for i, status := range refused {
		fit.ByNode[candidates[i].Name] = status
		fit.refusedBy(status.Plugin)
	}
	return nil, fit, nil
}

// Nomination returns the node that the pod waits for room on.
func (c *Cycle) Nomination() string {
	if name := c.Snapshot.nominations[c.Pod.UID]; name != "" {
		return name
	}
	return c.Pod.Status.NominatedNodeName
}

// Filters is a set of filters that can be tried on changed nodes.
type Filters = []activeFilter

// CheckWithNominated judges a node twice when pods of no lower priority wait for room on it: with them, because they will
// take it, and without, because they may not come and others may need them.
func (c *Cycle) CheckWithNominated(filters Filters, n *Node) *Status {
	if len(c.Snapshot.nominated) == 0 {
		return c.run(filters, n)
	}
	var with []*Pod
	for _, pod := range c.Snapshot.NominatedTo(n.Name) {
		if pod.UID != c.Pod.UID && pod.Priority >= c.Pod.Priority {
			with = append(with, pod)
		}
	}
	if len(with) == 0 {
		return c.run(filters, n)
	}
	tried, full := CloneFilters(filters), n.Clone()
	for _, pod := range with {
		full.WithPod(pod)
		TellAdded(tried, pod, full)
	}
	if status := check(tried, full, everyFilter); status != nil {
		return status
	}
	return c.run(filters, n)
}

// run asks filters about a node; of a node of the snapshot, local ones are asked once until it changes.
func (c *Cycle) run(filters Filters, n *Node) *Status {
	i := n.index
	if i >= len(c.Snapshot.Nodes) || c.Snapshot.Nodes[i] != n {
		return check(filters, n, everyFilter)
	}
	if c.class.judged[i] != n.Generation {
		c.class.judged[i], c.class.status[i] = n.Generation, check(filters, n, localOnes)
	}
	if status := c.class.status[i]; status != nil {
		return status
	}
	return check(filters, n, otherOnes)
}

// which filters to ask.
type which int

const (
	everyFilter which = iota
	localOnes
	otherOnes
)

// check returns the first refusal. Local filters come first in every profile, so that parting them changes no answer.
func check(filters Filters, n *Node, w which) *Status {
	for _, f := range filters {
		if w == localOnes && !f.local || w == otherOnes && f.local {
			continue
		}
		if status := f.Check(n); status != nil {
			return status
		}
	}
	return nil
}

// Filters returns the filters that have something to say about the pod.
func (c *Cycle) Filters() Filters { return c.filters }

// CloneFilters returns filters that can be told of changes without changing the given ones.
func CloneFilters(filters Filters) Filters {
	out := slices.Clone(filters)
	for i := range out {
		if t, ok := out[i].Filter.(Tracking); ok {
			out[i].Filter = t.Clone()
		}
	}
	return out
}

// TellAdded tells filters that a pod came to a node.
func TellAdded(filters Filters, pod *Pod, n *Node) {
	for _, f := range filters {
		if t, ok := f.Filter.(Tracking); ok {
			t.Added(pod, n)
		}
	}
}

// TellRemoved tells filters that a pod left a node.
func TellRemoved(filters Filters, pod *Pod, n *Node) {
	for _, f := range filters {
		if t, ok := f.Filter.(Tracking); ok {
			t.Removed(pod, n)
		}
	}
}

func (c *Cycle) preempt(fit *Fit) Decision {
	d := Decision{Fit: fit}
	if c.Profile.Preempter == nil {
		return d
	}
	preemption, status := c.Profile.Preempter.Preempt(c, fit)
	d.Preemption = preemption
	if status != nil {
		fit.After = "preemption: " + status.Message()
	}
	// A nomination that no longer leads anywhere would keep room from others.
	d.Clear = preemption == nil && c.Nomination() != "" && (status == nil || status.Code == Unresolvable)
	return d
}

// choose returns the node with the highest sum of weighted scores.
func (c *Cycle) choose(nodes []*Node, memory *Memory) (*Node, *Status) {
	if len(nodes) == 1 {
		return nodes[0], nil
	}
	total := make([]int64, len(nodes))
	scores := make([]int64, len(nodes))
	for at, w := range c.Profile.Scores {
		scorer, status := w.Score(c.Snapshot, c.Pod, nodes)
		if status != nil {
			return nil, broken(status, `running PreScore plugin "`+w.Name()+`"`)
		}
		if scorer == nil {
			continue
		}
		if _, local := scorer.(Local); local {
			c.recall(at, scorer, nodes, scores)
		} else {
			for i, n := range nodes {
				scores[i] = scorer.Score(n)
			}
		}
		if norm, ok := scorer.(Normalizer); ok {
			norm.Normalize(nodes, scores)
		}
		for i := range total {
			total[i] += w.Weight * scores[i]
		}
	}
	best, ties := slices.Max(total), 0
	for _, sum := range total {
		if sum == best {
			ties++
		}
	}
	turn := memory.among(ties)
	for i, sum := range total {
		if sum != best {
			continue
		}
		if turn == 0 {
			return nodes[i], nil
		}
		turn--
	}
	return nodes[0], nil
}

// recall fills in the scores of a local scorer, asking it only about nodes that changed.
func (c *Cycle) recall(at int, scorer Scorer, nodes []*Node, scores []int64) {
	known := &c.class.scores[at]
	if known.value == nil {
		known.value, known.at = make([]int64, len(c.Snapshot.Nodes)), make([]uint64, len(c.Snapshot.Nodes))
	}
	for i, n := range nodes {
		if known.at[n.index] != n.Generation {
			known.at[n.index], known.value[n.index] = n.Generation, scorer.Score(n)
		}
		scores[i] = known.value[n.index]
	}
}

func (c *Cycle) reserve(n *Node) *Plan {
	var all *Plan
	for _, f := range c.filters {
		r, ok := f.Filter.(Reserving)
		if !ok {
			continue
		}
		plan := r.Reserve(n)
		switch {
		case plan == nil:
		case all == nil:
			all = plan
		default:
			all.Volumes = append(all.Volumes, plan.Volumes...)
			all.Claims = append(all.Claims, plan.Claims...)
			all.Await = append(all.Await, plan.Await...)
			all.DeviceClaims = append(all.DeviceClaims, plan.DeviceClaims...)
		}
	}
	return all
}
