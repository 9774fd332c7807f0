// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package spread has the PodTopologySpread plugin: pods of a kind are to be spread evenly over zones, nodes or whatever
// labels of nodes name.
package spread

import (
	"maps"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"kogge.dev/kogge/rules/taints"
	"kogge.dev/kogge/scheduler/core"
)

// Name of the plugin.
const Name = "PodTopologySpread"

// Config of the plugin; the zero value is upstream's default.
type Config struct {
	// Defaults hold for pods that name no constraints, with a selector from their Services and their workload. Nil means
	// the system's: softly over nodes and zones.
	Defaults []corev1.TopologySpreadConstraint
}

// systemDefaults hold where nothing else was said.
var systemDefaults = []corev1.TopologySpreadConstraint{
	{TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 3},
	{TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 5},
}

// Plugin spreads pods.
type Plugin struct {
	defaults []corev1.TopologySpreadConstraint
	system   bool // the defaults are the system's: nodes without a zone still count for nodes
}

// New makes the plugin.
func New(config Config) *Plugin {
	if config.Defaults == nil {
		return &Plugin{defaults: systemDefaults, system: true}
	}
	return &Plugin{defaults: config.Defaults}
}

// Name implements core.Plugin.
func (*Plugin) Name() string { return Name }

// constraint is a parsed one.
type constraint struct {
	key         string
	maxSkew     int
	minDomains  int
	selector    labels.Selector
	ignoreNodes bool // count nodes that the pod's node affinity excludes
	honorTaints bool // don't count nodes whose taints the pod does not tolerate
}

// constraints returns the pod's own of one kind, or the defaults.
func (p *Plugin) constraints(s *core.Snapshot, pod *core.Pod, action corev1.UnsatisfiableConstraintAction) ([]constraint, error) {
	if own := pod.Spec.TopologySpreadConstraints; len(own) > 0 {
		return parse(own, pod.Labels, action)
	}
	out, err := parse(p.defaults, pod.Labels, action)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	kin := s.Kin(pod)
	if _, selectable := kin.Requirements(); !selectable || kin.Empty() {
		return nil, nil
	}
	for i := range out {
		out[i].selector = kin
	}
	return out, nil
}

func parse(in []corev1.TopologySpreadConstraint, podLabels map[string]string, action corev1.UnsatisfiableConstraintAction) ([]constraint, error) {
	var out []constraint
	for i := range in {
		c := &in[i]
		if c.WhenUnsatisfiable != action {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(c.LabelSelector)
		if err != nil {
			return nil, err
		}
		same := labels.Set{}
		for _, key := range c.MatchLabelKeys {
			if value, ok := podLabels[key]; ok {
				same[key] = value
			}
		}
		if requirements, ok := labels.SelectorFromSet(same).Requirements(); ok && len(same) > 0 {
			if _, selectable := selector.Requirements(); selectable {
				selector = selector.Add(requirements...)
			}
		}
		parsed := constraint{
			key: c.TopologyKey, maxSkew: int(c.MaxSkew), minDomains: 1, selector: selector,
			ignoreNodes: c.NodeAffinityPolicy != nil && *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyIgnore,
			honorTaints: c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor,
		}
		if c.MinDomains != nil {
			parsed.minDomains = int(*c.MinDomains)
		}
		out = append(out, parsed)
	}
	return out, nil
}

// counts reports whether pods on a node count for the constraint.
func (c *constraint) counts(pod *core.Pod, affinity nodeaffinity.RequiredNodeAffinity, node *core.Node) bool {
	if !c.ignoreNodes {
		if matches, _ := affinity.Match(node.Node); !matches {
			return false
		}
	}
	return !c.honorTaints ||
		taints.Untolerated(node.Spec.Taints, pod.Spec.Tolerations, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute) == nil
}

func hasAll(node *core.Node, constraints []constraint) bool {
	for i := range constraints {
		if _, ok := node.Labels[constraints[i].key]; !ok {
			return false
		}
	}
	return true
}

// matching counts the pods of a node that a constraint selects; those that terminate make room already.
func matching(node *core.Node, selector labels.Selector, namespace string) int {
	if selector.Empty() {
		return 0
	}
	n := 0
	for _, pod := range node.Pods {
		if pod.DeletionTimestamp == nil && pod.Namespace == namespace && selector.Matches(labels.Set(pod.Labels)) {
			n++
		}
	}
	return n
}

// Filter implements core.FilterPlugin.
func (p *Plugin) Filter(s *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	constraints, err := p.constraints(s, pod, corev1.DoNotSchedule)
	if err != nil {
		return nil, core.Fail(Name, err)
	}
	if len(constraints) == 0 {
		return nil, nil
	}
	f := &domains{pod: pod, constraints: constraints, affinity: nodeaffinity.GetRequiredNodeAffinity(pod.Pod)}
	f.pods = make([]map[string]int, len(constraints))
	f.self = make([]int, len(constraints))
	for i := range constraints {
		f.pods[i] = map[string]int{}
		if constraints[i].selector.Matches(labels.Set(pod.Labels)) {
			f.self[i] = 1
		}
	}
	for _, node := range s.Nodes {
		if !hasAll(node, constraints) {
			continue
		}
		for i := range constraints {
			if constraints[i].counts(pod, f.affinity, node) {
				f.pods[i][node.Labels[constraints[i].key]] += matching(node, constraints[i].selector, pod.Namespace)
			}
		}
	}
	f.least = make([]int, len(constraints))
	for i := range constraints {
		f.findLeast(i)
	}
	return f, nil
}

// domains counts the matching pods of each domain, for each constraint.
type domains struct {
	pod         *core.Pod
	affinity    nodeaffinity.RequiredNodeAffinity
	constraints []constraint
	pods        []map[string]int
	least       []int // pods of the emptiest domain, by constraint
	self        []int // 1 where the constraint selects the pod itself
}

func (f *domains) findLeast(i int) {
	least := math.MaxInt32
	for _, n := range f.pods[i] {
		least = min(least, n)
	}
	if len(f.pods[i]) < f.constraints[i].minDomains {
		least = 0
	}
	f.least[i] = least
}

// Check implements core.Filter.
func (f *domains) Check(node *core.Node) *core.Status {
	for i := range f.constraints {
		c := &f.constraints[i]
		domain, ok := node.Labels[c.key]
		if !ok {
			return core.RefuseForGood(Name, "node(s) didn't match pod topology spread constraints (missing required label)")
		}
		if f.pods[i][domain]+f.self[i]-f.least[i] > c.maxSkew {
			return core.Refuse(Name, "node(s) didn't match pod topology spread constraints")
		}
	}
	return nil
}

// Clone implements core.Tracking.
func (f *domains) Clone() core.Tracking {
	c := *f
	c.least = slices.Clone(f.least)
	c.pods = make([]map[string]int, len(f.pods))
	for i := range f.pods {
		c.pods[i] = maps.Clone(f.pods[i])
	}
	return &c
}

// Added implements core.Tracking.
func (f *domains) Added(pod *core.Pod, node *core.Node) { f.change(pod, node, 1) }

// Removed implements core.Tracking.
func (f *domains) Removed(pod *core.Pod, node *core.Node) { f.change(pod, node, -1) }

func (f *domains) change(pod *core.Pod, node *core.Node, by int) {
	// One that terminates was not counted.
	if pod.Namespace != f.pod.Namespace || pod.DeletionTimestamp != nil || !hasAll(node, f.constraints) {
		return
	}
	for i := range f.constraints {
		c := &f.constraints[i]
		if c.selector.Matches(labels.Set(pod.Labels)) && c.counts(f.pod, f.affinity, node) {
			f.pods[i][node.Labels[c.key]] += by
			f.findLeast(i)
		}
	}
}

// Hints implements core.Waker.
func (p *Plugin) Hints() []core.Hint {
	sameNamespace := func(pod *core.Pod, e core.Event) bool {
		for _, other := range []any{e.Old, e.New} {
			if o, ok := other.(*core.Pod); ok && o.Namespace == pod.Namespace {
				return true
			}
		}
		return false
	}
	return []core.Hint{
		{Kind: core.AssignedPods, Actions: core.Add | core.Delete | core.UpdateLabels | core.Update, Wakes: sameNamespace},
		{Kind: core.Nodes, Actions: core.Add | core.Delete | core.UpdateLabels | core.UpdateTaints},
	}
}

var (
	_ core.FilterPlugin = (*Plugin)(nil)
	_ core.ScorePlugin  = (*Plugin)(nil)
	_ core.Waker        = (*Plugin)(nil)
	_ core.Tracking     = (*domains)(nil)
)
