// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
)

// Term is a parsed pod affinity term.
type Term struct {
	Namespaces        sets.Set[string]
	NamespaceSelector labels.Selector // matches nothing when the term has none
	Selector          labels.Selector
	TopologyKey       string

	text     string
	byLabels bool // it selects namespaces by their labels
}

// WeightedTerm is a preferred term.
type WeightedTerm struct {
	Term
	Weight int32
}

// Matches reports whether the term selects a pod; nsLabels are the labels of that pod's namespace.
func (t *Term) Matches(pod *Pod, nsLabels labels.Set) bool {
	if !t.Namespaces.Has(pod.Namespace) && !t.NamespaceSelector.Matches(nsLabels) {
		return false
	}
	return t.Selector.Matches(labels.Set(pod.Labels))
}

// Question names which pods the term selects, for Snapshot.Tally.
func (t *Term) Question(o *Objects) string {
	if !t.byLabels {
		return t.text
	}
	return fmt.Sprint(t.text, o.namespacesVersion)
}

// Role is what a term is to the pod that has it.
type Role int

// The roles.
const (
	RequiredNear Role = iota
	RequiredApart
	PreferredNear
	PreferredApart
)

// Carried is a term of a pod that is placed, which others have to look at.
type Carried struct {
	*Term
	Role   Role
	Weight int32 // of a preferred one
	// Key is the same for equal terms of any pods.
	Key string
}

// Carried returns the pod's terms.
func (p *Pod) Carried() []Carried { return p.carried }

func (p *Pod) parseAffinity() {
	affinity := p.Spec.Affinity
	if affinity == nil {
		return
	}
	if a := affinity.PodAffinity; a != nil {
		p.RequiredAffinity = p.terms(RequiredNear, a.RequiredDuringSchedulingIgnoredDuringExecution)
		p.PreferredAffinity = p.weighted(PreferredNear, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a := affinity.PodAntiAffinity; a != nil {
		p.RequiredAntiAffinity = p.terms(RequiredApart, a.RequiredDuringSchedulingIgnoredDuringExecution)
		p.PreferredAntiAffinity = p.weighted(PreferredApart, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
}

func (p *Pod) terms(role Role, in []corev1.PodAffinityTerm) []Term {
	out := make([]Term, 0, len(in))
	for i := range in {
		if t, ok := p.term(&in[i]); ok {
			out = append(out, t)
			p.carry(role, 0, &out[len(out)-1])
		}
	}
	return out
}

func (p *Pod) weighted(role Role, in []corev1.WeightedPodAffinityTerm) []WeightedTerm {
	out := make([]WeightedTerm, 0, len(in))
	for i := range in {
		if t, ok := p.term(&in[i].PodAffinityTerm); ok {
			out = append(out, WeightedTerm{Term: t, Weight: in[i].Weight})
			p.carry(role, in[i].Weight, &out[len(out)-1].Term)
		}
	}
	return out
}

func (p *Pod) carry(role Role, weight int32, t *Term) {
	p.carried = append(p.carried, Carried{Term: t, Role: role, Weight: weight, Key: fmt.Sprint(role, weight, t.text)})
}

func (p *Pod) term(in *corev1.PodAffinityTerm) (Term, bool) {
	selector, err := metav1.LabelSelectorAsSelector(in.LabelSelector)
	if err != nil {
		p.Invalid = fmt.Errorf("parse pod affinity: %w", err)
		return Term{}, false
	}
	namespaces, err := metav1.LabelSelectorAsSelector(in.NamespaceSelector)
	if err != nil {
		p.Invalid = fmt.Errorf("parse pod affinity: %w", err)
		return Term{}, false
	}
	t := Term{
		Namespaces: sets.New(in.Namespaces...), NamespaceSelector: namespaces, Selector: selector, TopologyKey: in.TopologyKey,
		byLabels: in.NamespaceSelector != nil,
	}
	if len(in.Namespaces) == 0 && in.NamespaceSelector == nil {
		t.Namespaces.Insert(p.Namespace)
	}
	// Selectors that select nothing and all have the same text.
	t.text = fmt.Sprintf("%q %t %q %q %t %q;", t.TopologyKey, in.LabelSelector != nil, selector, sets.List(t.Namespaces), t.byLabels, namespaces)
	return t, true
}
