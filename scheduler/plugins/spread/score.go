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
		constraints: constraints, counts: make([]*core.Tally, len(constraints)), weights: make([]float64, len(constraints)),
		needsAll: len(pod.Spec.TopologySpreadConstraints) > 0 || !p.system,
	}
	affinity := nodeaffinity.GetRequiredNodeAffinity(pod.Pod)
	of := "score"
	if r.needsAll {
		of = "score of nodes with all keys"
	}
	for i := range constraints {
		c := &constraints[i]
		r.counts[i] = s.Tally(question(of, pod, constraints, i), func(node *core.Node, add func(string, int64)) {
			// Nodes as domains are ranked by what is on them, whatever else holds of them.
			if c.key == corev1.LabelHostname || (!r.needsAll || hasAll(node, constraints)) && c.counts(pod, affinity, node) {
				add(c.key, matching(node, c.selector, pod.Namespace))
			}
		})
	}
	r.weigh(nodes)
	return r, nil
}

// weigh finds the weight of each constraint from how many domains the nodes to rank are in: few large domains would otherwise
// weigh more than many small ones.
func (r *ranking) weigh(nodes []*core.Node) {
	counted := 0
	seen := make([]map[string]struct{}, len(r.constraints))
	for i := range seen {
		seen[i] = map[string]struct{}{}
	}
	for _, node := range nodes {
		if r.needsAll && !r.hasAll(node) {
			continue
		}
		counted++
		for i := range r.constraints {
			if key := r.constraints[i].key; key != corev1.LabelHostname {
				seen[i][node.Labels[key]] = struct{}{}
			}
		}
	}
	for i := range r.constraints {
		size := len(seen[i])
		if r.constraints[i].key == corev1.LabelHostname {
			size = counted
		}
		r.weights[i] = math.Log(float64(size + 2))
	}
}

// ranking prefers domains with few matching pods.
type ranking struct {
	constraints []constraint
	counts      []*core.Tally
	weights     []float64
	needsAll    bool // nodes that lack a topology key get the lowest score
}

func (r *ranking) hasAll(node *core.Node) bool {
	for i := range r.constraints {
		if _, ok := r.counts[i].In(r.constraints[i].key, node); !ok {
			return false
		}
	}
	return true
}

// Score implements core.Scorer.
func (r *ranking) Score(node *core.Node) int64 {
	if r.needsAll && !r.hasAll(node) {
		return ignored
	}
	sum := 0.0
	for i := range r.constraints {
		c := &r.constraints[i]
		n, ok := r.counts[i].In(c.key, node)
		if !ok {
			continue
		}
		if c.key == corev1.LabelHostname {
			n = r.counts[i].Own(node)
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
