// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package podaffinity has the InterPodAffinity plugin: pods that want to be near others, or not.
package podaffinity

import (
	"fmt"
	"math"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"

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

// Filter implements core.FilterPlugin.
func (*Plugin) Filter(s *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	f := &neighbours{pod: pod, objects: s.Objects, nsLabels: s.NamespaceLabels(pod.Namespace), own: len(pod.RequiredAffinity)+len(pod.RequiredAntiAffinity) > 0}
	f.forbidden = s.Tally(question("forbidden", pod, f.nsLabels), func(node *core.Node, add func(string, int64)) {
		for _, other := range node.WithAntiAffinity {
			f.countForbidding(other, add)
		}
	})
	if !f.own && f.forbidden.Zero() {
		return nil, nil
	}
	if f.own {
		terms := termsOf(s.Objects, pod.RequiredAffinity, pod.RequiredAntiAffinity)
		f.wanted = s.Tally(question("wanted "+terms, pod, nil), func(node *core.Node, add func(string, int64)) {
			for _, other := range node.Pods {
				f.countWanted(other, add)
			}
		})
		f.unwanted = s.Tally(question("unwanted "+terms, pod, nil), func(node *core.Node, add func(string, int64)) {
			for _, other := range node.Pods {
				f.countUnwanted(other, add)
			}
		})
	}
	return f, nil
}

// question names what is counted for a pod: nodes count the same for all pods of a namespace with the same labels, as far as terms of others go.
func question(of string, pod *core.Pod, nsLabels labels.Set) string {
	return strings.Join([]string{Name, of, pod.Namespace, labels.Set(pod.Labels).String(), nsLabels.String()}, "\x00")
}

// termsOf names terms, and the state of the namespaces where they select some by labels.
func termsOf(objects *core.Objects, lists ...[]core.Term) string {
	var b strings.Builder
	byLabels := false
	for _, terms := range lists {
		for i := range terms {
			t := &terms[i]
			namespaces := "none"
			if _, selectable := t.NamespaceSelector.Requirements(); selectable {
				namespaces, byLabels = t.NamespaceSelector.String(), true
			}
			selector := "none"
			if _, selectable := t.Selector.Requirements(); selectable {
				selector = t.Selector.String()
			}
			fmt.Fprintf(&b, "%q %q %q %q,", t.TopologyKey, selector, sets.List(t.Namespaces), namespaces)
		}
		b.WriteByte(';')
	}
	if byLabels {
		fmt.Fprint(&b, objects.NamespacesVersion())
	}
	return b.String()
}

// The refusals, which may be of thousands of nodes.
var (
	farAway = core.RefuseForGood(Name, "node(s) didn't match pod affinity rules")
	tooNear = core.Refuse(Name, "node(s) didn't match pod anti-affinity rules")
	keptOff = core.Refuse(Name, "node(s) didn't satisfy existing pods anti-affinity rules")
)

// neighbours counts, by domain, the pods that matter to a pod.
type neighbours struct {
	pod      *core.Pod
	objects  *core.Objects
	nsLabels labels.Set // of the pod's namespace
	own      bool       // the pod has terms of its own
	// wanted counts pods that match all of the pod's affinity terms, unwanted those that match an anti-affinity term of it; nil without terms.
	wanted, unwanted *core.Tally
	// forbidden counts pods that have an anti-affinity term that matches the pod.
	forbidden *core.Tally
}

func (f *neighbours) countForbidding(other *core.Pod, add func(string, int64)) {
	for i := range other.RequiredAntiAffinity {
		if t := &other.RequiredAntiAffinity[i]; t.Matches(f.pod, f.nsLabels) {
			add(t.TopologyKey, 1)
		}
	}
}

func (f *neighbours) countWanted(other *core.Pod, add func(string, int64)) {
	if len(f.pod.RequiredAffinity) == 0 || !matchesAll(f.pod.RequiredAffinity, other, f.objects.NamespaceLabels(other.Namespace)) {
		return
	}
	for i := range f.pod.RequiredAffinity {
		add(f.pod.RequiredAffinity[i].TopologyKey, 1)
	}
}

func (f *neighbours) countUnwanted(other *core.Pod, add func(string, int64)) {
	for i := range f.pod.RequiredAntiAffinity {
		if t := &f.pod.RequiredAntiAffinity[i]; t.Matches(other, f.objects.NamespaceLabels(other.Namespace)) {
			add(t.TopologyKey, 1)
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
		return farAway
	}
	for i := range f.pod.RequiredAntiAffinity {
		if n, _ := f.unwanted.In(f.pod.RequiredAntiAffinity[i].TopologyKey, node); n > 0 {
			return tooNear
		}
	}
	if f.forbidden.Sum(node) > 0 {
		return keptOff
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
	return all || f.wanted.Zero() && matchesAll(f.pod.RequiredAffinity, f.pod, f.nsLabels)
}

// Clone implements core.Tracking.
func (f *neighbours) Clone() core.Tracking {
	c := *f
	c.forbidden = f.forbidden.Clone()
	if f.own {
		c.wanted, c.unwanted = f.wanted.Clone(), f.unwanted.Clone()
	}
	return &c
}

// Added implements core.Tracking.
func (f *neighbours) Added(pod *core.Pod, node *core.Node) { f.change(pod, node, 1) }

// Removed implements core.Tracking.
func (f *neighbours) Removed(pod *core.Pod, node *core.Node) { f.change(pod, node, -1) }

func (f *neighbours) change(pod *core.Pod, node *core.Node, by int64) {
	to := func(t *core.Tally) func(string, int64) {
		return func(key string, n int64) { t.Add(key, node, n*by) }
	}
	f.countForbidding(pod, to(f.forbidden))
	if f.own {
		f.countWanted(pod, to(f.wanted))
		f.countUnwanted(pod, to(f.unwanted))
	}
}

// Score implements core.ScorePlugin.
func (p *Plugin) Score(s *core.Snapshot, pod *core.Pod, _ []*core.Node) (core.Scorer, *core.Status) {
	own := len(pod.PreferredAffinity)+len(pod.PreferredAntiAffinity) > 0
	if !own && (p.ignoreExisting || len(s.WithAffinity) == 0) {
		return nil, nil
	}
	r := &attraction{plugin: p, pod: pod, objects: s.Objects, nsLabels: s.NamespaceLabels(pod.Namespace)}
	of := "attraction "
	if own {
		of += weightsOf(pod.PreferredAffinity) + weightsOf(pod.PreferredAntiAffinity) + termsOf(s.Objects, bare(pod.PreferredAffinity), bare(pod.PreferredAntiAffinity))
	}
	r.sum = s.Tally(question(of, pod, r.nsLabels), func(node *core.Node, add func(string, int64)) {
		others := node.WithAffinity
		if own {
			others = node.Pods
		}
		for _, other := range others {
			r.add(other, add)
		}
	})
	if r.sum.Zero() {
		return nil, nil
	}
	return r, nil
}

func bare(terms []core.WeightedTerm) []core.Term {
	out := make([]core.Term, len(terms))
	for i := range terms {
		out[i] = terms[i].Term
	}
	return out
}

func weightsOf(terms []core.WeightedTerm) string {
	out := make([]int32, len(terms))
	for i := range terms {
		out[i] = terms[i].Weight
	}
	return fmt.Sprint(out)
}

// attraction is how much each domain draws the pod.
type attraction struct {
	plugin   *Plugin
	pod      *core.Pod
	objects  *core.Objects
	nsLabels labels.Set
	sum      *core.Tally
}

// add counts what the pod wants of another and what the other wants of it.
func (r *attraction) add(other *core.Pod, add func(string, int64)) {
	theirs := r.objects.NamespaceLabels(other.Namespace)
	draw := func(t *core.Term, weight int32, matched *core.Pod, nsLabels labels.Set) {
		if t.Matches(matched, nsLabels) {
			add(t.TopologyKey, int64(weight))
		}
	}
	for i := range r.pod.PreferredAffinity {
		t := &r.pod.PreferredAffinity[i]
		draw(&t.Term, t.Weight, other, theirs)
	}
	for i := range r.pod.PreferredAntiAffinity {
		t := &r.pod.PreferredAntiAffinity[i]
		draw(&t.Term, -t.Weight, other, theirs)
	}
	if r.plugin.weight > 0 {
		for i := range other.RequiredAffinity {
			draw(&other.RequiredAffinity[i], r.plugin.weight, r.pod, r.nsLabels)
		}
	}
	for i := range other.PreferredAffinity {
		t := &other.PreferredAffinity[i]
		draw(&t.Term, t.Weight, r.pod, r.nsLabels)
	}
	for i := range other.PreferredAntiAffinity {
		t := &other.PreferredAntiAffinity[i]
		draw(&t.Term, -t.Weight, r.pod, r.nsLabels)
	}
}

// Score implements core.Scorer.
func (r *attraction) Score(node *core.Node) int64 { return r.sum.Sum(node) }

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
