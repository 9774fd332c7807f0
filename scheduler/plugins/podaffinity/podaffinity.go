// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package podaffinity has the InterPodAffinity plugin: pods that want to be near others, or not.
package podaffinity

import (
	"maps"
	"math"

	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/scheduler/core"
)

// Name of the plugin.
const Name = "InterPodAffinity"

// Config of the plugin; the zero value is upstream's default.
type Config struct {
	// RequiredWeight is what a required affinity of a pod that runs counts towards one that matches it; nil means 1.
	RequiredWeight *int32
	// IgnoreExisting leaves the preferences of pods that run out, for pods without any preference.
	IgnoreExisting bool
}

// Plugin honours pod affinity and anti-affinity, of the pod and of those that run.
type Plugin struct {
	weight         int32
	ignoreExisting bool
}

// New makes the plugin.
func New(config Config) *Plugin {
	p := &Plugin{weight: 1, ignoreExisting: config.IgnoreExisting}
	if config.RequiredWeight != nil {
		p.weight = *config.RequiredWeight
	}
	return p
}

// Name implements core.Plugin.
func (*Plugin) Name() string { return Name }

// tally counts by domain: by the key of a label and, within it, by its value.
type tally map[string]map[string]int64

// add counts for the domain of that key that a node is in, if any.
func (t tally) add(key string, node *core.Node, by int64) {
	value, ok := node.Labels[key]
	if !ok {
		return
	}
	if t[key] == nil {
		t[key] = map[string]int64{}
	}
	t[key][value] += by
	if t[key][value] == 0 {
		delete(t[key], value)
		if len(t[key]) == 0 {
			delete(t, key)
		}
	}
}

// of returns the count of the domain of that key that a node is in.
func (t tally) of(key string, node *core.Node) int64 { return t[key][node.Labels[key]] }

// sum adds the counts of all domains that a node is in.
func (t tally) sum(node *core.Node) int64 {
	n := int64(0)
	for key, values := range t {
		if value, ok := node.Labels[key]; ok {
			n += values[value]
		}
	}
	return n
}

func (t tally) clone() tally {
	out := make(tally, len(t))
	for key, values := range t {
		out[key] = maps.Clone(values)
	}
	return out
}

// Filter implements core.FilterPlugin.
func (*Plugin) Filter(s *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	f := &neighbours{
		pod: pod, objects: s.Objects, nsLabels: s.NamespaceLabels(pod.Namespace),
		wanted: tally{}, unwanted: tally{}, forbidden: tally{},
	}
	for _, node := range s.WithAntiAffinity {
		for _, other := range node.WithAntiAffinity {
			f.countForbidding(other, node, 1)
		}
	}
	own := len(pod.RequiredAffinity)+len(pod.RequiredAntiAffinity) > 0
	if !own && len(f.forbidden) == 0 {
		return nil, nil
	}
	if own {
		for _, node := range s.Nodes {
			for _, other := range node.Pods {
				f.countOwn(other, node, 1)
			}
		}
	}
	return f, nil
}

// neighbours counts, by domain, the pods that matter to a pod.
type neighbours struct {
	pod      *core.Pod
	objects  *core.Objects
	nsLabels labels.Set // of the pod's namespace
	// wanted counts pods that match all of the pod's affinity terms; unwanted those that match an anti-affinity term of
	// it; forbidden those that have an anti-affinity term that matches the pod.
	wanted, unwanted, forbidden tally
}

func (f *neighbours) countForbidding(other *core.Pod, node *core.Node, by int64) {
	for i := range other.RequiredAntiAffinity {
		if t := &other.RequiredAntiAffinity[i]; t.Matches(f.pod, f.nsLabels) {
			f.forbidden.add(t.TopologyKey, node, by)
		}
	}
}

func (f *neighbours) countOwn(other *core.Pod, node *core.Node, by int64) {
	theirs := f.objects.NamespaceLabels(other.Namespace)
	if len(f.pod.RequiredAffinity) > 0 && matchesAll(f.pod.RequiredAffinity, other, theirs) {
		for i := range f.pod.RequiredAffinity {
			f.wanted.add(f.pod.RequiredAffinity[i].TopologyKey, node, by)
		}
	}
	for i := range f.pod.RequiredAntiAffinity {
		if t := &f.pod.RequiredAntiAffinity[i]; t.Matches(other, theirs) {
			f.unwanted.add(t.TopologyKey, node, by)
		}
	}
}

func matchesAll(terms []core.Term, pod *core.Pod, nsLabels labels.Set) bool {
	for i := range terms {
		if !terms[i].Matches(pod, nsLabels) {
			return false
		}
	}
	return true
}

// Check implements core.Filter.
func (f *neighbours) Check(node *core.Node) *core.Status {
	if !f.near(node) {
		return core.RefuseForGood(Name, "node(s) didn't match pod affinity rules")
	}
	for i := range f.pod.RequiredAntiAffinity {
		if f.unwanted.of(f.pod.RequiredAntiAffinity[i].TopologyKey, node) > 0 {
			return core.Refuse(Name, "node(s) didn't match pod anti-affinity rules")
		}
	}
	if f.forbidden.sum(node) > 0 {
		return core.Refuse(Name, "node(s) didn't satisfy existing pods anti-affinity rules")
	}
	return nil
}

// near reports whether the node is in a domain of every affinity term. Where no pod at all matches the terms, a pod that
// matches its own may be the first.
func (f *neighbours) near(node *core.Node) bool {
	all := true
	for i := range f.pod.RequiredAffinity {
		key := f.pod.RequiredAffinity[i].TopologyKey
		if _, ok := node.Labels[key]; !ok {
			return false
		}
		all = all && f.wanted.of(key, node) > 0
	}
	return all || len(f.wanted) == 0 && matchesAll(f.pod.RequiredAffinity, f.pod, f.nsLabels)
}

// Clone implements core.Tracking.
func (f *neighbours) Clone() core.Tracking {
	c := *f
	c.wanted, c.unwanted, c.forbidden = f.wanted.clone(), f.unwanted.clone(), f.forbidden.clone()
	return &c
}

// Added implements core.Tracking.
func (f *neighbours) Added(pod *core.Pod, node *core.Node) {
	f.countForbidding(pod, node, 1)
	f.countOwn(pod, node, 1)
}

// Removed implements core.Tracking.
func (f *neighbours) Removed(pod *core.Pod, node *core.Node) {
	f.countForbidding(pod, node, -1)
	f.countOwn(pod, node, -1)
}

// Score implements core.ScorePlugin.
func (p *Plugin) Score(s *core.Snapshot, pod *core.Pod, _ []*core.Node) (core.Scorer, *core.Status) {
	own := len(pod.PreferredAffinity)+len(pod.PreferredAntiAffinity) > 0
	if !own && (p.ignoreExisting || len(s.WithAffinity) == 0) {
		return nil, nil
	}
	r := &attraction{plugin: p, pod: pod, objects: s.Objects, nsLabels: s.NamespaceLabels(pod.Namespace), sum: tally{}}
	if own {
		for _, node := range s.Nodes {
			for _, other := range node.Pods {
				r.add(other, node)
			}
		}
	} else {
		for _, node := range s.WithAffinity {
			for _, other := range node.WithAffinity {
				r.add(other, node)
			}
		}
	}
	if len(r.sum) == 0 {
		return nil, nil
	}
	return r, nil
}

// attraction is how much each domain draws the pod.
type attraction struct {
	plugin   *Plugin
	pod      *core.Pod
	objects  *core.Objects
	nsLabels labels.Set
	sum      tally
}

func (r *attraction) draw(t *core.Term, weight int64, matched *core.Pod, nsLabels labels.Set, node *core.Node) {
	if t.Matches(matched, nsLabels) {
		r.sum.add(t.TopologyKey, node, weight)
	}
}

// add counts what the pod wants of another and what the other wants of it.
func (r *attraction) add(other *core.Pod, node *core.Node) {
	theirs := r.objects.NamespaceLabels(other.Namespace)
	for i := range r.pod.PreferredAffinity {
		t := &r.pod.PreferredAffinity[i]
		r.draw(&t.Term, int64(t.Weight), other, theirs, node)
	}
	for i := range r.pod.PreferredAntiAffinity {
		t := &r.pod.PreferredAntiAffinity[i]
		r.draw(&t.Term, -int64(t.Weight), other, theirs, node)
	}
	if r.plugin.weight > 0 {
		for i := range other.RequiredAffinity {
			r.draw(&other.RequiredAffinity[i], int64(r.plugin.weight), r.pod, r.nsLabels, node)
		}
	}
	for i := range other.PreferredAffinity {
		t := &other.PreferredAffinity[i]
		r.draw(&t.Term, int64(t.Weight), r.pod, r.nsLabels, node)
	}
	for i := range other.PreferredAntiAffinity {
		t := &other.PreferredAntiAffinity[i]
		r.draw(&t.Term, -int64(t.Weight), r.pod, r.nsLabels, node)
	}
}

// Score implements core.Scorer.
func (r *attraction) Score(node *core.Node) int64 { return r.sum.sum(node) }

// Normalize implements core.Normalizer.
func (*attraction) Normalize(_ []*core.Node, scores []int64) {
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	for _, score := range scores {
		least, most = min(least, score), max(most, score)
	}
	for i := range scores {
		if most == least {
			scores[i] = 0
			continue
		}
		scores[i] = int64(core.MaxScore * (float64(scores[i]-least) / float64(most-least)))
	}
}

// Hints implements core.Waker.
func (*Plugin) Hints() []core.Hint {
	return []core.Hint{
		{Kind: core.AssignedPods, Actions: core.Add | core.Delete | core.UpdateLabels, Wakes: func(pod *core.Pod, e core.Event) bool {
			if old, ok := e.Old.(*core.Pod); ok && (len(old.RequiredAntiAffinity) > 0 || len(pod.RequiredAntiAffinity) > 0) {
				return true // what was in the way may be gone
			}
			_, ok := e.New.(*core.Pod)
			return ok && len(pod.RequiredAffinity) > 0
		}},
		{Kind: core.Nodes, Actions: core.Add | core.UpdateLabels},
		{Kind: core.Namespaces, Actions: core.Add | core.Update},
	}
}

var (
	_ core.FilterPlugin = (*Plugin)(nil)
	_ core.ScorePlugin  = (*Plugin)(nil)
	_ core.Waker        = (*Plugin)(nil)
	_ core.Tracking     = (*neighbours)(nil)
	_ core.Normalizer   = (*attraction)(nil)
)
