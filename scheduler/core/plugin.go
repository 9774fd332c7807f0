// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/sets"
)

// MaxScore is the best score that a plugin may give a node after normalising; 0 is the worst.
const MaxScore = 100

// Plugin is one rule of scheduling. It says what it takes part in by implementing the interfaces below. Plugins are pure:
// they read the snapshot and their arguments, and return judgements; a driver acts on what was decided.
type Plugin interface {
	Name() string
}

// Gate holds pods back from the queue.
type Gate interface {
	Plugin
	// Admit returns nil when the pod may be queued.
	Admit(pod *Pod) *Status
}

// FilterPlugin rules nodes out.
type FilterPlugin interface {
	Plugin
	// Filter begins the judgement of one pod. A nil Filter without status means that the plugin has nothing to say about
	// this pod; a status refuses the pod on all nodes.
	Filter(s *Snapshot, pod *Pod) (Filter, *Status)
}

// Filter judges nodes for one pod, within one cycle.
type Filter interface {
	// Check returns nil when the pod may run on the node.
	Check(node *Node) *Status
}

// Candidates is a Filter that knows beforehand which nodes come into question.
type Candidates interface {
	// Candidates returns the names of the nodes, or nil for all.
	Candidates() sets.Set[string]
}

// Tracking is a Filter whose judgement of a node depends on pods of others: it is told when preemption tries what would
// be with or without a pod.
type Tracking interface {
	Filter
	// Clone returns a Filter that can be told without changing this one.
	Clone() Tracking
	// Added and Removed tell of a pod on a node.
	Added(pod *Pod, node *Node)
	Removed(pod *Pod, node *Node)
}

// Reserving is a Filter whose plugin needs something done before the pod may be bound.
type Reserving interface {
	Filter
	// Reserve returns what to do when the pod goes to node; nil for nothing.
	Reserve(node *Node) *Plan
}

// Plan lists the objects that a decision changes before the pod is bound. They are to be written as they are.
type Plan struct {
	Volumes []*corev1.PersistentVolume
	Claims  []*corev1.PersistentVolumeClaim
	// DeviceClaims are allocated and reserved: metadata first, then status.
	DeviceClaims []*resourcev1.ResourceClaim
	// Await are claims that must be bound by others, and say so in their status, before the pod may be: kubelets ask for that.
	Await []*corev1.PersistentVolumeClaim
}

// ScorePlugin ranks the nodes on which a pod may run.
type ScorePlugin interface {
	Plugin
	// Score begins the ranking; a nil Scorer means that the plugin has no preference.
	Score(s *Snapshot, pod *Pod, nodes []*Node) (Scorer, *Status)
}

// Scorer ranks nodes for one pod, within one cycle.
type Scorer interface {
	Score(node *Node) int64
}

// Normalizer is a Scorer whose scores are brought to 0..MaxScore once all are known.
type Normalizer interface {
	Normalize(nodes []*Node, scores []int64)
}

// Preempter looks for pods whose eviction makes room for one that fits nowhere.
type Preempter interface {
	Plugin
	// Preempt returns whom to evict from where, or why that does not help.
	Preempt(c *Cycle, fit *Fit) (*Preemption, *Status)
}

// Preemption is a decision to evict.
type Preemption struct {
	Node    string
	Victims []*Pod
}

// Waker tells which changes may make a pod schedulable that the plugin refused.
type Waker interface {
	Plugin
	Hints() []Hint
}

// Hint is one kind of such changes.
type Hint struct {
	Kind    Kind
	Actions Action
	// Wakes narrows it; nil means that any such change may help.
	Wakes func(pod *Pod, e Event) bool
}

// Profile is a set of plugins under a scheduler name.
type Profile struct {
	// Name is what pods say in spec.schedulerName.
	Name      string
	Gates     []Gate
	Filters   []FilterPlugin
	Preempter Preempter // nil: never
	Scores    []Weighted
	Wakers    []Waker
}

// Weighted is a score plugin with its weight, at least 1.
type Weighted struct {
	ScorePlugin
	Weight int64
}
