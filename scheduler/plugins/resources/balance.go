// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resources

import (
	"math"

	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/scheduler/core"
)

// Point is one of a line that maps utilization in percent to a score of 0..MaxScore; points are in order of utilization.
type Point struct{ Utilization, Score int64 }

// Shaped prefers nodes by how far they are used, along a line.
func Shaped(points []Point) Strategy {
	return func(shares []Share) int64 {
		var sum, weights int64
		for _, s := range shares {
			at := int64(100)
			if s.Used <= s.Has {
				at = s.Used * 100 / s.Has
			}
			if score := along(points, at); score > 0 {
				sum += score * s.Weight
				weights += s.Weight
			}
		}
		if weights == 0 {
			return 0
		}
		return int64(math.Round(float64(sum) / float64(weights)))
	}
}

func along(points []Point, at int64) int64 {
	for i, p := range points {
		if at > p.Utilization {
			continue
		}
		if i == 0 {
			return p.Score
		}
		before := points[i-1]
		return before.Score + (p.Score-before.Score)*(at-before.Utilization)/(p.Utilization-before.Utilization)
	}
	return points[len(points)-1].Score
}

// Balanced prefers nodes whose resources the pod brings to be used in more equal shares.
type Balanced struct{ resources []Resource }

// NewBalanced makes the plugin; nil resources mean CPU and memory.
func NewBalanced(resources []Resource) *Balanced {
	if resources == nil {
		resources = computeResources
	}
	return &Balanced{resources: resources}
}

// Name implements core.Plugin.
func (*Balanced) Name() string { return BalancedName }

// Score implements core.ScorePlugin.
func (p *Balanced) Score(_ *core.Snapshot, pod *core.Pod, _ []*core.Node) (core.Scorer, *core.Status) {
	for _, r := range p.resources {
		if pod.Requests.Of(r.Name) != 0 {
			return &balance{pod: pod, resources: p.resources}, nil
		}
	}
	return nil, nil // a pod without requests would always prefer the same node
}

type balance struct {
	pod       *core.Pod
	resources []Resource
}

// Score implements core.Scorer: around 75, more when the pod evens the shares out, less when it does the opposite.
func (s *balance) Score(node *core.Node) int64 {
	var with, without [4]float64
	a, b := with[:0], without[:0]
	for _, r := range s.resources {
		has, wanted := node.Allocatable.Of(r.Name), s.pod.Requests.Of(r.Name)
		compute := r.Name == corev1.ResourceCPU || r.Name == corev1.ResourceMemory || r.Name == corev1.ResourceEphemeralStorage
		if has == 0 || wanted == 0 && !compute {
			continue
		}
		used := node.Requested.Of(r.Name)
		a = append(a, min(float64(used+wanted)/float64(has), 1))
		b = append(b, min(float64(used)/float64(has), 1))
	}
	const half = core.MaxScore / 2
	return half + (half+evenness(a)-evenness(b))/2
}

// evenness is MaxScore when all fractions are equal, less by their standard deviation.
func evenness(fractions []float64) int64 {
	deviation := 0.0
	switch n := float64(len(fractions)); {
	case n == 2:
		deviation = math.Abs((fractions[0] - fractions[1]) / 2)
	case n > 2:
		mean, sum := 0.0, 0.0
		for _, f := range fractions {
			mean += f / n
		}
		for _, f := range fractions {
			sum += (f - mean) * (f - mean)
		}
		deviation = math.Sqrt(sum / n)
	}
	return int64((1 - deviation) * core.MaxScore)
}

var _ core.ScorePlugin = (*Balanced)(nil)

// Local implements core.Local.
func (*balance) Local() {}
