// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"kogge.dev/kogge/scheduler/core"
)

// Affinity honours node selectors and node affinity.
type Affinity struct {
	// required and preferred are added to every pod's own; nil for none.
	required  *nodeaffinity.NodeSelector
	preferred *nodeaffinity.PreferredSchedulingTerms
}

// NewAffinity makes the plugin; added is what holds for every pod besides its own affinity, or nil.
func NewAffinity(added *corev1.NodeAffinity) (*Affinity, error) {
	p := &Affinity{}
	if added == nil {
		return p, nil
	}
	var err error
	if terms := added.RequiredDuringSchedulingIgnoredDuringExecution; terms != nil {
		if p.required, err = nodeaffinity.NewNodeSelector(terms); err != nil {
			return nil, err
		}
	}
	if terms := added.PreferredDuringSchedulingIgnoredDuringExecution; len(terms) > 0 {
		if p.preferred, err = nodeaffinity.NewPreferredSchedulingTerms(terms); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Name implements core.Plugin.
func (*Affinity) Name() string { return AffinityName }

// Filter implements core.FilterPlugin.
func (p *Affinity) Filter(_ *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	terms := requiredTerms(pod)
	if terms == nil && len(pod.Spec.NodeSelector) == 0 && p.required == nil {
		return nil, nil
	}
	f := &selected{own: nodeaffinity.GetRequiredNodeAffinity(pod.Pod), added: p.required}
	if terms != nil {
		f.names = namesOf(terms.NodeSelectorTerms)
		if f.names != nil && f.names.Len() == 0 {
			return nil, core.RefuseForGood(AffinityName, "pod affinity terms conflict")
		}
	}
	return f, nil
}

func requiredTerms(pod *core.Pod) *corev1.NodeSelector {
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		return a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}

// namesOf returns the nodes that the terms name, or nil when some term names none and so may match any node.
func namesOf(terms []corev1.NodeSelectorTerm) sets.Set[string] {
	if len(terms) == 0 {
		return nil
	}
	all := sets.Set[string]{}
	for i := range terms {
		var named sets.Set[string]
		for _, r := range terms[i].MatchFields {
			if r.Key != metav1.ObjectNameField || r.Operator != corev1.NodeSelectorOpIn {
				continue
			}
			values := sets.New(r.Values...)
			if named == nil {
				named = values
			} else {
				named = named.Intersection(values)
			}
		}
		if named == nil {
			return nil
		}
		all = all.Union(named)
	}
	return all
}

// Hints implements core.Waker.
func (p *Affinity) Hints() []core.Hint {
	return []core.Hint{{Kind: core.Nodes, Actions: core.Add | core.UpdateLabels, Wakes: func(pod *core.Pod, e core.Event) bool {
		node, ok := e.New.(*corev1.Node)
		if !ok || p.required != nil && !p.required.Match(node) {
			return false
		}
		matches, err := nodeaffinity.GetRequiredNodeAffinity(pod.Pod).Match(node)
		return matches && err == nil
	}}}
}

type selected struct {
	own   nodeaffinity.RequiredNodeAffinity
	added *nodeaffinity.NodeSelector
	names sets.Set[string]
}

// Candidates implements core.Candidates.
func (f *selected) Candidates() sets.Set[string] { return f.names }

// Check implements core.Filter.
func (f *selected) Check(node *core.Node) *core.Status {
	if f.added != nil && !f.added.Match(node.Node) {
		return core.RefuseForGood(AffinityName, "node(s) didn't match scheduler-enforced node affinity")
	}
	// Terms that can't be parsed match nothing; validation keeps new ones out.
	if matches, _ := f.own.Match(node.Node); !matches {
		return core.RefuseForGood(AffinityName, "node(s) didn't match Pod's node affinity/selector")
	}
	return nil
}

// Score implements core.ScorePlugin.
func (p *Affinity) Score(_ *core.Snapshot, pod *core.Pod, _ []*core.Node) (core.Scorer, *core.Status) {
	s := preference{added: p.preferred}
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil && len(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
		own, err := nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
		if err != nil {
			return nil, core.Fail(AffinityName, err)
		}
		s.own = own
	}
	if s.own == nil && s.added == nil {
		return nil, nil
	}
	return s, nil
}

type preference struct {
	own, added *nodeaffinity.PreferredSchedulingTerms
}

// Score implements core.Scorer.
func (s preference) Score(node *core.Node) int64 {
	sum := int64(0)
	if s.own != nil {
		sum += s.own.Score(node.Node)
	}
	if s.added != nil {
		sum += s.added.Score(node.Node)
	}
	return sum
}

// Normalize implements core.Normalizer.
func (preference) Normalize(_ []*core.Node, scores []int64) { core.Scale(scores, core.HighestIsBest) }

// Local implements core.Local.
func (*selected) Local() {}

// Local implements core.Local.
func (preference) Local() {}
