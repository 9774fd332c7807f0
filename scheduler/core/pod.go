// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"kogge.dev/kogge/rules/volumes"
)

// Pod is a pod with what every cycle asks of it, computed once per revision. It is immutable.
type Pod struct {
	*corev1.Pod

	// Requests is what a node must have free for the pod; Scored is what scoring assumes that it uses.
	Requests, Scored Amounts
	Ports            []HostPort
	Priority         int32

	// Terms of pod affinity, parsed.
	RequiredAffinity, RequiredAntiAffinity   []Term
	PreferredAffinity, PreferredAntiAffinity []WeightedTerm

	claims []types.NamespacedName
	class  string // of pods that local plugins treat alike

	// Invalid says why the affinity terms can't be understood; such a pod can't be scheduled.
	Invalid error
}

// Key names the pod.
func (p *Pod) Key() types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}

// Term is a parsed pod affinity term.
type Term struct {
	Namespaces        sets.Set[string]
	NamespaceSelector labels.Selector // matches nothing when the term has none
	Selector          labels.Selector
	TopologyKey       string
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

// NewPod computes what cycles need of pod.
func NewPod(pod *corev1.Pod) *Pod {
	p := &Pod{Pod: pod, Ports: hostPorts(pod), claims: volumes.ClaimsOf(pod)}
	p.Requests, p.Scored = requestsOf(pod)
	if pod.Spec.Priority != nil {
		p.Priority = *pod.Spec.Priority
	}
	p.parseAffinity()
	p.class = classOf(p)
	return p
}

func (p *Pod) parseAffinity() {
	affinity := p.Spec.Affinity
	if affinity == nil {
		return
	}
	if a := affinity.PodAffinity; a != nil {
		p.RequiredAffinity = p.terms(a.RequiredDuringSchedulingIgnoredDuringExecution)
		p.PreferredAffinity = p.weighted(a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a := affinity.PodAntiAffinity; a != nil {
		p.RequiredAntiAffinity = p.terms(a.RequiredDuringSchedulingIgnoredDuringExecution)
		p.PreferredAntiAffinity = p.weighted(a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
}

func (p *Pod) terms(in []corev1.PodAffinityTerm) []Term {
	var out []Term
	for i := range in {
		if t, ok := p.term(&in[i]); ok {
			out = append(out, t)
		}
	}
	return out
}

func (p *Pod) weighted(in []corev1.WeightedPodAffinityTerm) []WeightedTerm {
	var out []WeightedTerm
	for i := range in {
		if t, ok := p.term(&in[i].PodAffinityTerm); ok {
			out = append(out, WeightedTerm{Term: t, Weight: in[i].Weight})
		}
	}
	return out
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
	t := Term{Namespaces: sets.New(in.Namespaces...), NamespaceSelector: namespaces, Selector: selector, TopologyKey: in.TopologyKey}
	if len(in.Namespaces) == 0 && in.NamespaceSelector == nil {
		t.Namespaces.Insert(p.Namespace)
	}
	return t, true
}

// Class names the pods that are alike in what they ask of a node: requests, ports, node selector, node affinity and tolerations.
func (p *Pod) Class() string { return p.class }

// HasAffinity reports whether the pod has any term that scoring of other pods must look at.
func (p *Pod) HasAffinity() bool {
	return len(p.RequiredAffinity)+len(p.PreferredAffinity)+len(p.RequiredAntiAffinity)+len(p.PreferredAntiAffinity) > 0
}

// Claims returns the names of the claims that the pod mounts, those of its generic ephemeral volumes included.
func (p *Pod) Claims() []types.NamespacedName { return p.claims }
