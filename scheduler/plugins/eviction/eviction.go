// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package eviction has the DefaultPreemption plugin: which pods must go so that a more important one fits.
package eviction

import (
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/rules/pods"
	"kogge.dev/kogge/scheduler/core"
)

// Name of the plugin.
const Name = "DefaultPreemption"

// Plugin looks at every node on which evicting less important pods would help, and chooses the one that it hurts least.
type Plugin struct{}

// Name implements core.Plugin.
func (Plugin) Name() string { return Name }

// candidate is a node with what would have to go.
type candidate struct {
	node       string
	victims    []*core.Pod // the most important first
	violations int         // victims whose eviction a disruption budget forbids
}

// Preempt implements core.Preempter.
func (Plugin) Preempt(c *core.Cycle, fit *core.Fit) (*core.Preemption, *core.Status) {
	if reason := ineligible(c, fit); reason != "" {
		return nil, core.Refuse(Name, reason)
	}
	tried := &core.Fit{
		Nodes: len(c.Snapshot.Nodes), ByNode: map[string]*core.Status{},
		Rest: core.RefuseForGood(Name, "Preemption is not helpful for scheduling"),
	}
	var candidates []candidate
	for _, node := range c.Snapshot.Nodes {
		if status := fit.Of(node.Name); status == nil || status.Code != core.Unschedulable {
			continue
		}
		found, status := victims(c, node)
		switch {
		case status == nil:
			candidates = append(candidates, found)
		case status.Code == core.Failed:
			return nil, status
		default:
			tried.ByNode[node.Name] = status
		}
	}
	if len(candidates) == 0 {
		return nil, &core.Status{Code: core.Unresolvable, Plugin: Name, Reasons: []string{tried.Error()}}
	}
	best := cheapest(candidates)
	return &core.Preemption{Node: best.node, Victims: best.victims}, nil
}

// ineligible returns why the pod may preempt nobody now.
func ineligible(c *core.Cycle, fit *core.Fit) string {
	if policy := c.Pod.Spec.PreemptionPolicy; policy != nil && *policy == corev1.PreemptNever {
		return "not eligible due to preemptionPolicy=Never."
	}
	name := c.Nomination()
	if name == "" {
		return ""
	}
	if status := fit.Of(name); status != nil && status.Code == core.Unresolvable {
		return ""
	}
	node := c.Snapshot.Node(name)
	if node == nil {
		return ""
	}
	for _, pod := range node.Pods {
		if pod.Priority < c.Pod.Priority && preempted(pod) {
			return "not eligible due to a terminating pod on the nominated node."
		}
	}
	return ""
}

// preempted reports whether a pod goes because the scheduler wants its room.
func preempted(pod *core.Pod) bool {
	if pod.DeletionTimestamp == nil {
		return false
	}
	cond := pods.Condition(pod.Pod, corev1.DisruptionTarget)
	return cond != nil && cond.Status == corev1.ConditionTrue && cond.Reason == corev1.PodReasonPreemptionByScheduler
}

// victims finds the least that must go from a node: it takes all less important pods away, and gives back one after the
// other, those protected by budgets and the more important ones first, as long as the pod still fits.
func victims(c *core.Cycle, original *core.Node) (candidate, *core.Status) {
	node, filters := original.Clone(), core.CloneFilters(c.Filters())
	var potential []*core.Pod
	for _, pod := range original.Pods {
		if pod.Priority < c.Pod.Priority {
			potential = append(potential, pod)
		}
	}
	if len(potential) == 0 {
		return candidate{}, core.RefuseForGood(Name, "No preemption victims found for incoming pod")
	}
	remove := func(pod *core.Pod) {
		node.WithoutPod(pod)
		core.TellRemoved(filters, pod, node)
	}
	for _, pod := range potential {
		remove(pod)
	}
	if status := c.CheckWithNominated(filters, node); status != nil {
		return candidate{}, status
	}
	slices.SortStableFunc(potential, byImportance)
	found := candidate{node: original.Name}
	protected, free := protectedOnes(potential, c.Snapshot)
	giveBack := func(pod *core.Pod) bool {
		node.WithPod(pod)
		core.TellAdded(filters, pod, node)
		if c.CheckWithNominated(filters, node) == nil {
			return true
		}
		remove(pod)
		found.victims = append(found.victims, pod)
		return false
	}
	for _, pod := range protected {
		if !giveBack(pod) {
			found.violations++
		}
	}
	for _, pod := range free {
		giveBack(pod)
	}
	if len(found.victims) == 0 {
		return candidate{}, core.RefuseForGood(Name, "No preemption victims found for incoming pod")
	}
	slices.SortStableFunc(found.victims, byImportance)
	return found, nil
}

// byImportance orders by priority, the highest first, then by start, the earliest first.
func byImportance(a, b *core.Pod) int {
	if a.Priority != b.Priority {
		if a.Priority > b.Priority {
			return -1
		}
		return 1
	}
	if order := started(a).Compare(started(b)); order != 0 {
		return order
	}
	return strings.Compare(string(a.UID), string(b.UID))
}

// started is when the pod began; one that has not yet counts as the latest.
func started(pod *core.Pod) time.Time {
	if pod.Status.StartTime != nil {
		return pod.Status.StartTime.Time
	}
	return time.Unix(math.MaxInt32, 0)
}

// protectedOnes parts pods into those that no budget allows to evict and the others, keeping their order. Each allowed
// disruption is used once.
func protectedOnes(in []*core.Pod, s *core.Snapshot) (protected, free []*core.Pod) {
	allowed := map[*policyv1.PodDisruptionBudget]int32{}
	for _, pod := range in {
		violates := false
		for _, budget := range s.Budgets(pod.Namespace) {
			if !covers(budget, pod) {
				continue
			}
			left, seen := allowed[budget]
			if !seen {
				left = budget.Status.DisruptionsAllowed
			}
			allowed[budget] = left - 1
			if left < 1 {
				violates = true
				break
			}
		}
		if violates {
			protected = append(protected, pod)
		} else {
			free = append(free, pod)
		}
	}
	return protected, free
}

// covers reports whether a budget counts the pod and has not counted its disruption yet.
func covers(budget *policyv1.PodDisruptionBudget, pod *core.Pod) bool {
	if len(pod.Labels) == 0 {
		return false
	}
	selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
	if err != nil || selector.Empty() || !selector.Matches(labels.Set(pod.Labels)) {
		return false
	}
	_, disrupted := budget.Status.DisruptedPods[pod.Name]
	return !disrupted
}

// cheapest chooses the node with the fewest violated budgets, then the least important most important victim, then the
// smallest sum of priorities, then the fewest victims, then the one whose most important victims started last.
func cheapest(in []candidate) candidate {
	return slices.MinFunc(in, func(a, b candidate) int {
		for _, cost := range []func(candidate) int64{
			func(c candidate) int64 { return int64(c.violations) },
			func(c candidate) int64 { return int64(c.victims[0].Priority) },
			prioritySum,
			func(c candidate) int64 { return int64(len(c.victims)) },
			func(c candidate) int64 { return -earliestStart(c).UnixNano() },
		} {
			if x, y := cost(a), cost(b); x != y {
				if x < y {
					return -1
				}
				return 1
			}
		}
		return strings.Compare(a.node, b.node)
	})
}

// prioritySum counts each victim, so that a few pods of negative priority are not dearer than many.
func prioritySum(c candidate) int64 {
	sum := int64(0)
	for _, pod := range c.victims {
		sum += int64(pod.Priority) + math.MaxInt32 + 1
	}
	return sum
}

// earliestStart is when the first of the most important victims began.
func earliestStart(c candidate) time.Time {
	first := started(c.victims[0])
	for _, pod := range c.victims {
		if at := started(pod); pod.Priority == c.victims[0].Priority && at.Before(first) {
			first = at
		}
	}
	return first
}

// Hints implements core.Waker: it refuses nobody by itself.
func (Plugin) Hints() []core.Hint { return nil }

var _ core.Preempter = Plugin{}
