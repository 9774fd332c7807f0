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

// domain is a group of nodes: those that have a label.
type domain struct{ key, value string }

// Filter implements core.FilterPlugin.
func (*Plugin) Filter(s *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	f := &neighbours{
		pod: pod, objects: s.Objects, nsLabels: s.NamespaceLabels(pod.Namespace),
		wanted: map[domain]int{}, unwanted: map[domain]int{}, forbidden: map[domain]int{},
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
	wanted, unwanted, forbidden map[domain]int
}

func count(m map[domain]int, key string, node *core.Node, by int) {
	value, ok := node.Labels[key]
	if !ok {
		return
	}
	d := domain{key, value}
	m[d] += by
	if m[d] == 0 {
		delete(m, d)
	}
}

func (f *neighbours) countForbidding(other *core.Pod, node *core.Node, by int) {
	for i := range other.RequiredAntiAffinity {
		if t := &other.RequiredAntiAffinity[i]; t.Matches(f.pod, f.nsLabels) {
			count(f.forbidden, t.TopologyKey, node, by)
		}
	}
}

func (f *neighbours) countOwn(other *core.Pod, node *core.Node, by int) {
	theirs := f.objects.NamespaceLabels(other.Namespace)
	if len(f.pod.RequiredAffinity) > 0 && matchesAll(f.pod.RequiredAffinity, other, theirs) {
		for i := range f.pod.RequiredAffinity {
			count(f.wanted, f.pod.RequiredAffinity[i].TopologyKey, node, by)
		}
	}
	for i := range f.pod.RequiredAntiAffinity {
		if t := &f.pod.RequiredAntiAffinity[i]; t.Matches(other, theirs) {
			count(f.unwanted, t.TopologyKey, node, by)
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
		key := f.pod.RequiredAntiAffinity[i].TopologyKey
		if value, ok := node.Labels[key]; ok && f.unwanted[domain{key, value}] > 0 {
			return core.Refuse(Name, "node(s) didn't match pod anti-affinity rules")
		}
	}
	for d, n := range f.forbidden {
		if value, ok := node.Labels[d.key]; ok && value == d.value && n > 0 {
			return core.Refuse(Name, "node(s) didn't satisfy existing pods anti-affinity rules")
		}
	}
	return nil
}

// near reports whether the node is in a domain of every affinity term. Where no pod at all matches the terms, a pod that
// matches its own may be the first.
func (f *neighbours) near(node *core.Node) bool {
	all := true
	for i := range f.pod.RequiredAffinity {
		key := f.pod.RequiredAffinity[i].TopologyKey
		value, ok := node.Labels[key]
		if !ok {
			return false
		}
		all = all && f.wanted[domain{key, value}] > 0
	}
	return all || len(f.wanted) == 0 && matchesAll(f.pod.RequiredAffinity, f.pod, f.nsLabels)
}

// Clone implements core.Tracking.
func (f *neighbours) Clone() core.Tracking {
	c := *f
	c.wanted, c.unwanted, c.forbidden = maps.Clone(f.wanted), maps.Clone(f.unwanted), maps.Clone(f.forbidden)
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
	r := &attraction{plugin: p, pod: pod, objects: s.Objects, nsLabels: s.NamespaceLabels(pod.Namespace), sum: map[domain]int64{}}
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
	for d := range r.sum {
		r.byKey = append(r.byKey, d)
	}
	return r, nil
}

// attraction is how much each domain draws the pod.
type attraction struct {
	plugin   *Plugin
	pod      *core.Pod
	objects  *core.Objects
	nsLabels labels.Set
	sum      map[domain]int64
	byKey    []domain
}

func (r *attraction) draw(t *core.Term, weight int64, matched *core.Pod, nsLabels labels.Set, node *core.Node) {
	if value, ok := node.Labels[t.TopologyKey]; ok && t.Matches(matched, nsLabels) {
		r.sum[domain{t.TopologyKey, value}] += weight
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
func (r *attraction) Score(node *core.Node) int64 {
	sum := int64(0)
	for _, d := range r.byKey {
		if value, ok := node.Labels[d.key]; ok && value == d.value {
			sum += r.sum[d]
		}
	}
	return sum
}

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
