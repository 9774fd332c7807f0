// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package spread has the PodTopologySpread plugin: pods of a kind are to be spread evenly over zones, nodes or whatever
// labels of nodes name.
package spread

import (
	"math"
	"slices"
	"strconv"
	"strings"

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
	maxSkew     int64
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
			key: c.TopologyKey, maxSkew: int64(c.MaxSkew), minDomains: 1, selector: selector,
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
func matching(node *core.Node, selector labels.Selector, namespace string) int64 {
	if selector.Empty() {
		return 0
	}
	n := int64(0)
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
	f.counts = make([]*core.Tally, len(constraints))
	f.self = make([]int64, len(constraints))
	f.least = make([]int64, len(constraints))
	for i := range constraints {
		c := &constraints[i]
		if c.selector.Matches(labels.Set(pod.Labels)) {
			f.self[i] = 1
		}
		f.counts[i] = s.Tally(question("filter", pod, constraints, i), func(node *core.Node, add func(string, int64)) {
			if hasAll(node, constraints) && c.counts(pod, f.affinity, node) {
				add(c.key, matching(node, c.selector, pod.Namespace))
			}
		})
		f.findLeast(i)
	}
	return f, nil
}

// question names what is counted for a constraint among others: all on which it depends which nodes and pods count.
func question(of string, pod *core.Pod, constraints []constraint, i int) string {
	c := &constraints[i]
	var b strings.Builder
	for _, text := range []string{Name, of, pod.Namespace, c.key, c.selector.String(), strconv.FormatBool(c.ignoreNodes), strconv.FormatBool(c.honorTaints)} {
		b.WriteString(text)
		b.WriteByte(0)
	}
	for i := range constraints {
		b.WriteString(constraints[i].key)
		b.WriteByte(0)
	}
	b.WriteString(pod.Class())
	return b.String()
}

// The refusals, which may be of thousands of nodes.
var (
	unlabelled = core.RefuseForGood(Name, "node(s) didn't match pod topology spread constraints (missing required label)")
	skewed     = core.Refuse(Name, "node(s) didn't match pod topology spread constraints")
)

// domains counts the matching pods of each domain, for each constraint.
type domains struct {
	pod         *core.Pod
	affinity    nodeaffinity.RequiredNodeAffinity
	constraints []constraint
	counts      []*core.Tally
	least       []int64 // pods of the emptiest domain, by constraint
	self        []int64 // 1 where the constraint selects the pod itself
}

func (f *domains) findLeast(i int) {
	least, existing := f.counts[i].Least(f.constraints[i].key)
	switch {
	case existing < f.constraints[i].minDomains:
		least = 0
	case existing == 0:
		least = math.MaxInt32
	}
	f.least[i] = least
}

// Check implements core.Filter.
func (f *domains) Check(node *core.Node) *core.Status {
	for i := range f.constraints {
		c := &f.constraints[i]
		n, ok := f.counts[i].In(c.key, node)
		if !ok {
			return unlabelled
		}
		if n+f.self[i]-f.least[i] > c.maxSkew {
			return skewed
		}
	}
	return nil
}

// Clone implements core.Tracking.
func (f *domains) Clone() core.Tracking {
	c := *f
	c.least = slices.Clone(f.least)
	c.counts = make([]*core.Tally, len(f.counts))
	for i := range f.counts {
		c.counts[i] = f.counts[i].Clone()
	}
	return &c
}

// Added implements core.Tracking.
func (f *domains) Added(pod *core.Pod, node *core.Node) { f.change(pod, node, 1) }

// Removed implements core.Tracking.
func (f *domains) Removed(pod *core.Pod, node *core.Node) { f.change(pod, node, -1) }

func (f *domains) change(pod *core.Pod, node *core.Node, by int64) {
	// One that terminates was not counted.
	if pod.Namespace != f.pod.Namespace || pod.DeletionTimestamp != nil || !hasAll(node, f.constraints) {
		return
	}
	for i := range f.constraints {
		c := &f.constraints[i]
		if !c.selector.Empty() && c.selector.Matches(labels.Set(pod.Labels)) && c.counts(f.pod, f.affinity, node) {
			f.counts[i].Add(c.key, node, by)
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
