// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package resources has the plugins that look at what nodes have and pods ask for.
package resources

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"kogge.dev/kogge/scheduler/core"
)

// Names of the plugins.
const (
	FitName      = "NodeResourcesFit"
	BalancedName = "NodeResourcesBalancedAllocation"
)

// FitConfig sets the Fit plugin; the zero value is upstream's default.
type FitConfig struct {
	// Ignored are extended resources, and IgnoredGroups what stands before their slash, that are not checked.
	Ignored, IgnoredGroups []string
	// Strategy ranks nodes; nil means LeastAllocated of CPU and memory, weighed equally.
	Strategy Strategy
	// Resources are what is ranked by; nil means CPU and memory with weight 1.
	Resources []Resource
}

// Resource is one that scores look at.
type Resource struct {
	Name   corev1.ResourceName
	Weight int64
}

var computeResources = []Resource{{Name: corev1.ResourceCPU, Weight: 1}, {Name: corev1.ResourceMemory, Weight: 1}}

// Fit keeps a node's pods within what it has, and ranks nodes by what would be left.
type Fit struct {
	ignored, groups sets.Set[string]
	strategy        Strategy
	resources       []Resource
}

// NewFit makes the plugin.
func NewFit(config FitConfig) *Fit {
	p := &Fit{
		ignored: sets.New(config.Ignored...), groups: sets.New(config.IgnoredGroups...), strategy: config.Strategy,
		resources: config.Resources,
	}
	if p.strategy == nil {
		p.strategy = LeastAllocated
	}
	if p.resources == nil {
		p.resources = computeResources
	}
	return p
}

// Name implements core.Plugin.
func (*Fit) Name() string { return FitName }

// Filter implements core.FilterPlugin.
func (p *Fit) Filter(_ *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	f := &room{requests: pod.Requests, nothing: pod.Requests.IsZero()}
	for name, v := range pod.Requests.Extended {
		group, _, _ := strings.Cut(string(name), "/")
		if ignored := p.ignored.Has(string(name)) || p.groups.Has(group); v != 0 && (!ignored || !isExtended(name)) {
			f.extended = append(f.extended, name)
		}
	}
	slices.Sort(f.extended)
	return f, nil
}

// isExtended reports whether a resource is neither one of Kubernetes' own nor quota's.
func isExtended(name corev1.ResourceName) bool {
	text := string(name)
	return strings.Contains(text, "/") && !strings.Contains(text, "kubernetes.io/") && !strings.HasPrefix(text, "requests.")
}

// Hints implements core.Waker.
func (p *Fit) Hints() []core.Hint {
	return []core.Hint{
		{Kind: core.AssignedPods, Actions: core.Delete | core.UpdateScaleDown},
		{Kind: core.Nodes, Actions: core.Add | core.UpdateAllocatable, Wakes: func(pod *core.Pod, e core.Event) bool {
			node, ok := e.New.(*corev1.Node)
			if !ok {
				return false
			}
			filter, _ := p.Filter(nil, pod)
			return filter.Check(core.EmptyNode(node)) == nil
		}},
	}
}

// room asks whether a node has room for the requests.
type room struct {
	requests core.Amounts
	nothing  bool
	extended []corev1.ResourceName // asked for and not ignored, in order
}

// Check implements core.Filter.
func (f *room) Check(node *core.Node) *core.Status {
	var short []string
	never := false
	if int64(len(node.Pods))+1 > node.MaxPods {
		short = append(short, "Too many pods")
	}
	lack := func(name corev1.ResourceName, wanted, has, used int64) {
		if wanted > 0 && wanted > has-used {
			short = append(short, "Insufficient "+string(name))
			never = never || wanted > has
		}
	}
	if !f.nothing {
		has, used := &node.Allocatable, &node.Requested
		lack(corev1.ResourceCPU, f.requests.MilliCPU, has.MilliCPU, used.MilliCPU)
		lack(corev1.ResourceMemory, f.requests.Memory, has.Memory, used.Memory)
		lack(corev1.ResourceEphemeralStorage, f.requests.Ephemeral, has.Ephemeral, used.Ephemeral)
		for _, name := range f.extended {
			lack(name, f.requests.Extended[name], has.Extended[name], used.Extended[name])
		}
	}
	switch {
	case len(short) == 0:
		return nil
	case never:
		return core.RefuseForGood(FitName, short...)
	}
	return core.Refuse(FitName, short...)
}

// Score implements core.ScorePlugin.
func (p *Fit) Score(_ *core.Snapshot, pod *core.Pod, _ []*core.Node) (core.Scorer, *core.Status) {
	return &usage{pod: pod, resources: p.resources, strategy: p.strategy}, nil
}

// Strategy turns one node's resources into a score.
type Strategy func(resources []Share) int64

// Share is what a node has of a resource and what is used of it with the pod.
type Share struct {
	Weight, Used, Has int64
}

type usage struct {
	pod       *core.Pod
	resources []Resource
	strategy  Strategy
}

// Score implements core.Scorer.
func (s *usage) Score(node *core.Node) int64 {
	var buffer [4]Share
	shares := buffer[:0]
	for _, r := range s.resources {
		has := node.Allocatable.Of(r.Name)
		wanted := s.pod.Scored.Of(r.Name)
		if has == 0 || wanted == 0 && r.Name != corev1.ResourceCPU && r.Name != corev1.ResourceMemory && r.Name != corev1.ResourceEphemeralStorage {
			continue
		}
		used := node.Scored.Of(r.Name)
		if r.Name == corev1.ResourceEphemeralStorage {
			used = node.Requested.Ephemeral
		}
		shares = append(shares, Share{Weight: r.Weight, Used: used + wanted, Has: has})
	}
	return s.strategy(shares)
}

// LeastAllocated prefers nodes with much left.
func LeastAllocated(shares []Share) int64 {
	return weigh(shares, func(s Share) int64 {
		if s.Used > s.Has {
			return 0
		}
		return (s.Has - s.Used) * core.MaxScore / s.Has
	})
}

// MostAllocated prefers nodes with little left, to keep others empty.
func MostAllocated(shares []Share) int64 {
	return weigh(shares, func(s Share) int64 { return min(s.Used, s.Has) * core.MaxScore / s.Has })
}

func weigh(shares []Share, score func(Share) int64) int64 {
	var sum, weights int64
	for _, s := range shares {
		sum += score(s) * s.Weight
		weights += s.Weight
	}
	if weights == 0 {
		return 0
	}
	return sum / weights
}

var (
	_ core.FilterPlugin = (*Fit)(nil)
	_ core.ScorePlugin  = (*Fit)(nil)
	_ core.Waker        = (*Fit)(nil)
)

// Local implements core.Local.
func (*room) Local() {}

// Local implements core.Local.
func (*usage) Local() {}
