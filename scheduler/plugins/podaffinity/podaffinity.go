// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package podaffinity has the InterPodAffinity plugin: pods that want to be near others, or not.
package podaffinity

import (
	"math"
	"slices"

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

// matching counts the pods that a term selects.
func matching(s *core.Snapshot, t *core.Term) *core.Tally {
	return s.Tally(Name+" match "+t.Question(s.Objects), func(node *core.Node, add func(string, int64)) {
		for _, other := range node.Pods {
			if t.Matches(other, s.NamespaceLabels(other.Namespace)) {
				add(t.TopologyKey, 1)
			}
		}
	})
}

// carrying counts the pods that have a term, as often as they have it.
func carrying(s *core.Snapshot, c core.Carried) *core.Tally {
	return s.Tally(Name+" have "+c.Key, func(node *core.Node, add func(string, int64)) {
		for _, other := range node.WithTerms {
			for _, theirs := range other.Carried() {
				if theirs.Key == c.Key {
					add(c.TopologyKey, 1)
				}
			}
		}
	})
}

// Filter implements core.FilterPlugin.
func (*Plugin) Filter(s *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	f := &neighbours{snapshot: s, pod: pod, nsLabels: s.NamespaceLabels(pod.Namespace)}
	for _, c := range s.Terms {
		f.forbid(c)
	}
	for i := range pod.RequiredAntiAffinity {
		f.unwanted = append(f.unwanted, matching(s, &pod.RequiredAntiAffinity[i]))
	}
	if len(pod.RequiredAffinity) > 0 {
		f.wanted = f.matchingAll()
	}
	if f.wanted == nil && len(f.unwanted)+len(f.forbidden) == 0 {
		return nil, nil
	}
	return f, nil
}

// The refusals, which may be of thousands of nodes.
var (
	farAway = core.RefuseForGood(Name, "node(s) didn't match pod affinity rules")
	tooNear = core.Refuse(Name, "node(s) didn't match pod anti-affinity rules")
	keptOff = core.Refuse(Name, "node(s) didn't satisfy existing pods anti-affinity rules")
)

// neighbours counts, by domain, the pods that matter to a pod.
type neighbours struct {
	snapshot *core.Snapshot
	pod      *core.Pod
	nsLabels labels.Set // of the pod's namespace
	// wanted counts pods that match all of the pod's affinity terms; nil without any.
	wanted *core.Tally
	// unwanted counts the pods that match each anti-affinity term of it, in their order.
	unwanted []*core.Tally
	// forbidden counts, for each anti-affinity term of others that matches the pod, those that have it.
	forbidden []forbidding
}

// forbidding is an anti-affinity term of others.
type forbidding struct {
	core.Carried
	pods *core.Tally
}

// forbid takes in a term of others, if it keeps the pod off, and returns the count of those that have it.
func (f *neighbours) forbid(c core.Carried) *core.Tally {
	if c.Role != core.RequiredApart || !c.Matches(f.pod, f.nsLabels) {
		return nil
	}
	pods := carrying(f.snapshot, c)
	f.forbidden = append(f.forbidden, forbidding{c, pods})
	return pods
}

// matchingAll counts the pods that match all affinity terms.
func (f *neighbours) matchingAll() *core.Tally {
	terms, question := f.pod.RequiredAffinity, Name+" match all"
	for i := range terms {
		question += " " + terms[i].Question(f.snapshot.Objects)
	}
	return f.snapshot.Tally(question, func(node *core.Node, add func(string, int64)) {
		for _, other := range node.Pods {
			if f.matchesAll(other) {
				for i := range terms {
					add(terms[i].TopologyKey, 1)
				}
			}
		}
	})
}

func (f *neighbours) matchesAll(other *core.Pod) bool {
	nsLabels := f.snapshot.NamespaceLabels(other.Namespace)
	for i := range f.pod.RequiredAffinity {
		if !f.pod.RequiredAffinity[i].Matches(other, nsLabels) {
			return false
		}
	}
	return true
}

// Check implements core.Filter.
func (f *neighbours) Check(node *core.Node) *core.Status {
	if f.wanted != nil && !f.near(node) {
		return farAway
	}
	for i, pods := range f.unwanted {
		if n, _ := pods.In(f.pod.RequiredAntiAffinity[i].TopologyKey, node); n > 0 {
			return tooNear
		}
	}
	for i := range f.forbidden {
		if n, _ := f.forbidden[i].pods.In(f.forbidden[i].TopologyKey, node); n > 0 {
			return keptOff
		}
	}
	return nil
}

// near reports whether the node is in a domain of every affinity term. Where no pod at all matches the terms, a pod that
// matches its own may be the first.
func (f *neighbours) near(node *core.Node) bool {
	all := true
	for i := range f.pod.RequiredAffinity {
		n, ok := f.wanted.In(f.pod.RequiredAffinity[i].TopologyKey, node)
		if !ok {
			return false
		}
		all = all && n > 0
	}
	return all || f.wanted.Zero() && f.matchesAll(f.pod)
}

// Clone implements core.Tracking.
func (f *neighbours) Clone() core.Tracking {
	c := *f
	if f.wanted != nil {
		c.wanted = f.wanted.Clone()
	}
	c.unwanted, c.forbidden = slices.Clone(f.unwanted), slices.Clone(f.forbidden)
	for i := range c.unwanted {
		c.unwanted[i] = c.unwanted[i].Clone()
	}
	for i := range c.forbidden {
		c.forbidden[i].pods = c.forbidden[i].pods.Clone()
	}
	return &c
}

// Added implements core.Tracking.
func (f *neighbours) Added(pod *core.Pod, node *core.Node) { f.change(pod, node, 1) }

// Removed implements core.Tracking.
func (f *neighbours) Removed(pod *core.Pod, node *core.Node) { f.change(pod, node, -1) }

func (f *neighbours) change(pod *core.Pod, node *core.Node, by int64) {
	if f.wanted != nil && f.matchesAll(pod) {
		for i := range f.pod.RequiredAffinity {
			f.wanted.Add(f.pod.RequiredAffinity[i].TopologyKey, node, by)
		}
	}
	for i, pods := range f.unwanted {
		if t := &f.pod.RequiredAntiAffinity[i]; t.Matches(pod, f.snapshot.NamespaceLabels(pod.Namespace)) {
			pods.Add(t.TopologyKey, node, by)
		}
	}
	for _, c := range pod.Carried() {
		if pods := f.forbiddenBy(c); pods != nil {
			pods.Add(c.TopologyKey, node, by)
		}
	}
}

// forbiddenBy returns the count of those that have a term which keeps the pod off, nil if it does not. Pods that only wait for room may have
// terms that no other has.
func (f *neighbours) forbiddenBy(c core.Carried) *core.Tally {
	for i := range f.forbidden {
		if f.forbidden[i].Key == c.Key {
			return f.forbidden[i].pods
		}
	}
	return f.forbid(c)
}

// Score implements core.ScorePlugin.
func (p *Plugin) Score(s *core.Snapshot, pod *core.Pod, _ []*core.Node) (core.Scorer, *core.Status) {
	var r attraction
	for i := range pod.PreferredAffinity {
		r.pull(&pod.PreferredAffinity[i].Term, pod.PreferredAffinity[i].Weight, matching(s, &pod.PreferredAffinity[i].Term))
	}
	for i := range pod.PreferredAntiAffinity {
		r.pull(&pod.PreferredAntiAffinity[i].Term, -pod.PreferredAntiAffinity[i].Weight, matching(s, &pod.PreferredAntiAffinity[i].Term))
	}
	if own := len(pod.PreferredAffinity)+len(pod.PreferredAntiAffinity) > 0; own || !p.ignoreExisting {
		nsLabels := s.NamespaceLabels(pod.Namespace)
		for _, c := range s.Terms {
			if weight := p.weightOf(c); weight != 0 && c.Matches(pod, nsLabels) {
				r.pull(c.Term, weight, carrying(s, c))
			}
		}
	}
	if len(r) == 0 {
		return nil, nil
	}
	return r, nil
}

// weightOf is what a term of a pod that runs counts towards one that it matches.
func (p *Plugin) weightOf(c core.Carried) int32 {
	switch c.Role {
	case core.RequiredNear:
		return p.weight
	case core.PreferredNear:
		return c.Weight
	case core.PreferredApart:
		return -c.Weight
	case core.RequiredApart: // a matter for Filter
	}
	return 0
}

// attraction is what draws the pod, and what keeps it off.
type attraction []pull

// pull is what each of some pods adds to the score of the nodes in its domain.
type pull struct {
	key    string
	weight int64
	pods   *core.Tally
}

func (r *attraction) pull(t *core.Term, weight int32, pods *core.Tally) {
	if !pods.Zero() {
		*r = append(*r, pull{t.TopologyKey, int64(weight), pods})
	}
}

// Score implements core.Scorer.
func (r attraction) Score(node *core.Node) int64 {
	sum := int64(0)
	for i := range r {
		n, _ := r[i].pods.In(r[i].key, node)
		sum += r[i].weight * n
	}
	return sum
}

// Normalize implements core.Normalizer.
func (attraction) Normalize(_ []*core.Node, scores []int64) {
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
	_ core.Normalizer   = attraction(nil)
)
