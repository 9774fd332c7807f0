// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package placement has the plugins that look at one node's own properties: taints, labels, name, ports, images.
package placement

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/rules/taints"
	"kogge.dev/kogge/scheduler/core"
)

// Names of the plugins.
const (
	UnschedulableName = "NodeUnschedulable"
	TaintName         = "TaintToleration"
	NameName          = "NodeName"
	AffinityName      = "NodeAffinity"
	PortsName         = "NodePorts"
	ImageName         = "ImageLocality"
	GatesName         = "SchedulingGates"
	FeaturesName      = "NodeDeclaredFeatures"
)

// Unschedulable keeps pods off cordoned nodes.
type Unschedulable struct{}

var cordon = corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}

// Name implements core.Plugin.
func (Unschedulable) Name() string { return UnschedulableName }

// Filter implements core.FilterPlugin.
func (Unschedulable) Filter(_ *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	if taints.Tolerated(pod.Spec.Tolerations, &cordon) {
		return nil, nil
	}
	return uncordoned{}, nil
}

// Hints implements core.Waker.
func (Unschedulable) Hints() []core.Hint {
	return []core.Hint{{Kind: core.Nodes, Actions: core.Add | core.UpdateTaints, Wakes: func(_ *core.Pod, e core.Event) bool {
		node, ok := e.New.(*corev1.Node)
		return ok && !node.Spec.Unschedulable
	}}}
}

type uncordoned struct{}

// Check implements core.Filter.
func (uncordoned) Check(node *core.Node) *core.Status {
	if !node.Spec.Unschedulable {
		return nil
	}
	return core.RefuseForGood(UnschedulableName, "node(s) were unschedulable")
}

// Taint keeps pods off nodes with taints that they do not tolerate, and away from those that would rather not have them.
type Taint struct{}

// Name implements core.Plugin.
func (Taint) Name() string { return TaintName }

// Filter implements core.FilterPlugin.
func (Taint) Filter(_ *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	return tolerating{pod.Spec.Tolerations}, nil
}

// Hints implements core.Waker.
func (Taint) Hints() []core.Hint {
	return []core.Hint{{Kind: core.Nodes, Actions: core.Add | core.UpdateTaints, Wakes: func(pod *core.Pod, e core.Event) bool {
		node, ok := e.New.(*corev1.Node)
		return ok && untolerated(node, pod.Spec.Tolerations) == nil
	}}}
}

func untolerated(node *corev1.Node, tolerations []corev1.Toleration) *corev1.Taint {
	if len(node.Spec.Taints) == 0 {
		return nil
	}
	return taints.Untolerated(node.Spec.Taints, tolerations, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute)
}

type tolerating struct{ tolerations []corev1.Toleration }

// Check implements core.Filter.
func (f tolerating) Check(node *core.Node) *core.Status {
	if untolerated(node.Node, f.tolerations) == nil {
		return nil
	}
	return core.RefuseForGood(TaintName, "node(s) had untolerated taint(s)")
}

// Score implements core.ScorePlugin.
func (Taint) Score(_ *core.Snapshot, pod *core.Pod, _ []*core.Node) (core.Scorer, *core.Status) {
	tolerations := slices.DeleteFunc(slices.Clone(pod.Spec.Tolerations), func(t corev1.Toleration) bool {
		return t.Effect != "" && t.Effect != corev1.TaintEffectPreferNoSchedule
	})
	return welcome{tolerations}, nil
}

// welcome counts the taints of a node that would rather not have the pod; the fewer the better.
type welcome struct{ tolerations []corev1.Toleration }

// Score implements core.Scorer.
func (s welcome) Score(node *core.Node) int64 {
	n := int64(0)
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		if taint.Effect == corev1.TaintEffectPreferNoSchedule && !taints.Tolerated(s.tolerations, taint) {
			n++
		}
	}
	return n
}

// Normalize implements core.Normalizer.
func (welcome) Normalize(_ []*core.Node, scores []int64) { core.Scale(scores, core.LowestIsBest) }

// Local implements core.Local.
func (uncordoned) Local() {}

// Local implements core.Local.
func (tolerating) Local() {}

// Local implements core.Local.
func (welcome) Local() {}
