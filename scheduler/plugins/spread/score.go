// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"kogge.dev/kogge/scheduler/core"
)

// ignored marks nodes that lack a topology key, until scores are normalised.
const ignored = -1

// Score implements core.ScorePlugin.
func (p *Plugin) Score(s *core.Snapshot, pod *core.Pod, nodes []*core.Node) (core.Scorer, *core.Status) {
	constraints, err := p.constraints(s, pod, corev1.ScheduleAnyway)
	if err != nil {
		return nil, core.Fail(Name, err)
	}
	if len(constraints) == 0 {
		return nil, nil
	}
	r := &ranking{
		pod: pod, constraints: constraints, pods: make([]map[string]int, len(constraints)), weights: make([]float64, len(constraints)),
		needsAll: len(pod.Spec.TopologySpreadConstraints) > 0 || !p.system,
	}
	counted := 0
	for i := range constraints {
		r.pods[i] = map[string]int{}
	}
	for _, node := range nodes {
		if r.needsAll && !hasAll(node, constraints) {
			continue
		}
		counted++
		for i := range constraints {
			if constraints[i].key != corev1.LabelHostname {
				r.pods[i][node.Labels[constraints[i].key]] = 0
			}
		}
	}
	for i := range constraints {
		size := len(r.pods[i])
		if constraints[i].key == corev1.LabelHostname {
			size = counted
		}
		// Few large domains would otherwise weigh more than many small ones.
		r.weights[i] = math.Log(float64(size + 2))
	}
	r.count(s)
	return r, nil
}

// count adds up the matching pods of the domains that the nodes to rank are in. Nodes as domains are counted when they
// are scored.
func (r *ranking) count(s *core.Snapshot) {
	affinity := nodeaffinity.GetRequiredNodeAffinity(r.pod.Pod)
	for i := range r.constraints {
		c := &r.constraints[i]
		if c.key == corev1.LabelHostname {
			continue
		}
		for _, node := range s.Nodes {
			domain := node.Labels[c.key]
			if _, wanted := r.pods[i][domain]; !wanted || r.needsAll && !hasAll(node, r.constraints) || !c.counts(r.pod, affinity, node) {
				continue
			}
			r.pods[i][domain] += matching(node, c.selector, r.pod.Namespace)
		}
	}
}

// ranking prefers domains with few matching pods.
type ranking struct {
	pod         *core.Pod
	constraints []constraint
	pods        []map[string]int // by constraint and domain
	weights     []float64
	needsAll    bool // nodes that lack a topology key get the lowest score
}

// Score implements core.Scorer.
func (r *ranking) Score(node *core.Node) int64 {
	if r.needsAll && !hasAll(node, r.constraints) {
		return ignored
	}
	sum := 0.0
	for i := range r.constraints {
		c := &r.constraints[i]
		domain, ok := node.Labels[c.key]
		if !ok {
			continue
		}
		n := r.pods[i][domain]
		if c.key == corev1.LabelHostname {
			n = matching(node, c.selector, r.pod.Namespace)
		}
		sum += float64(n)*r.weights[i] + float64(c.maxSkew-1)
	}
	return int64(math.Round(sum))
}

// Normalize implements core.Normalizer.
func (r *ranking) Normalize(_ []*core.Node, scores []int64) {
	least, most := int64(math.MaxInt64), int64(0)
	for _, score := range scores {
		if score != ignored {
			least, most = min(least, score), max(most, score)
		}
	}
	for i, score := range scores {
		switch {
		case score == ignored:
			scores[i] = 0
		case most == 0:
			scores[i] = core.MaxScore
		default:
			scores[i] = core.MaxScore * (most + least - score) / most
		}
	}
}

var _ core.Normalizer = (*ranking)(nil)
