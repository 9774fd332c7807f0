// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"slices"
	"strings"

	"kogge.dev/kogge/scheduler/core"
)

// Gates keeps pods with scheduling gates out of the queue.
type Gates struct{}

// Name implements core.Plugin.
func (Gates) Name() string { return GatesName }

// Admit implements core.Gate.
func (Gates) Admit(pod *core.Pod) *core.Status {
	if len(pod.Spec.SchedulingGates) == 0 {
		return nil
	}
	names := make([]string, 0, len(pod.Spec.SchedulingGates))
	for _, gate := range pod.Spec.SchedulingGates {
		names = append(names, gate.Name)
	}
	return core.RefuseForGood(GatesName, "waiting for scheduling gates: ["+strings.Join(names, " ")+"]")
}

// NodeName honours spec.nodeName.
type NodeName struct{}

// Name implements core.Plugin.
func (NodeName) Name() string { return NameName }

// Filter implements core.FilterPlugin.
func (NodeName) Filter(_ *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	if pod.Spec.NodeName == "" {
		return nil, nil
	}
	return named(pod.Spec.NodeName), nil
}

// Hints implements core.Waker.
func (NodeName) Hints() []core.Hint { return []core.Hint{{Kind: core.Nodes, Actions: core.Add}} }

type named string

// Check implements core.Filter.
func (f named) Check(node *core.Node) *core.Status {
	if node.Name == string(f) {
		return nil
	}
	return core.RefuseForGood(NameName, "node(s) didn't match the requested node name")
}

// Ports keeps pods that want the same host port off one node.
type Ports struct{}

// Name implements core.Plugin.
func (Ports) Name() string { return PortsName }

// Filter implements core.FilterPlugin.
func (Ports) Filter(_ *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	if len(pod.Ports) == 0 {
		return nil, nil
	}
	return free(pod.Ports), nil
}

// Hints implements core.Waker.
func (Ports) Hints() []core.Hint {
	return []core.Hint{
		{Kind: core.AssignedPods, Actions: core.Delete, Wakes: func(pod *core.Pod, e core.Event) bool {
			gone, ok := e.Old.(*core.Pod)
			return ok && slices.ContainsFunc(gone.Ports, func(p core.HostPort) bool {
				return slices.ContainsFunc(pod.Ports, p.Conflicts)
			})
		}},
		{Kind: core.Nodes, Actions: core.Add},
	}
}

type free []core.HostPort

// Check implements core.Filter.
func (f free) Check(node *core.Node) *core.Status {
	if len(node.Ports) == 0 {
		return nil
	}
	for _, wanted := range f {
		for taken := range node.Ports {
			if wanted.Conflicts(taken) {
				return core.Refuse(PortsName, "node(s) didn't have free ports for the requested pod ports")
			}
		}
	}
	return nil
}

// Image prefers nodes that have the pod's images, the more the larger and the wider spread they are; so that an image
// that only one node has does not draw every pod there.
type Image struct{}

// Sizes in bytes of all of a pod's images at which the score begins to grow, and per container at which it ends to.
const (
	smallImages = 23 << 20
	largeImage  = 1000 << 20
)

// Name implements core.Plugin.
func (Image) Name() string { return ImageName }

// Score implements core.ScorePlugin.
func (Image) Score(s *core.Snapshot, pod *core.Pod, _ []*core.Node) (core.Scorer, *core.Status) {
	images := have{nodes: s.ImageNodes, total: len(s.Nodes), containers: len(pod.Spec.InitContainers) + len(pod.Spec.Containers)}
	add := func(reference string) {
		if strings.LastIndex(reference, ":") <= strings.LastIndex(reference, "/") {
			reference += ":latest"
		}
		images.names = append(images.names, reference)
	}
	for i := range pod.Spec.InitContainers {
		add(pod.Spec.InitContainers[i].Image)
	}
	for i := range pod.Spec.Containers {
		add(pod.Spec.Containers[i].Image)
	}
	for i := range pod.Spec.Volumes {
		if image := pod.Spec.Volumes[i].Image; image != nil {
			add(image.Reference)
		}
	}
	if !slices.ContainsFunc(images.names, func(name string) bool { return s.ImageNodes[name] > 0 }) {
		return nil, nil
	}
	return images, nil
}

type have struct {
	names      []string
	nodes      map[string]int
	total      int
	containers int
}

// Score implements core.Scorer.
func (s have) Score(node *core.Node) int64 {
	sum := int64(0)
	for _, name := range s.names {
		if size, ok := node.Images[name]; ok {
			sum += int64(float64(size) * (float64(s.nodes[name]) / float64(s.total)))
		}
	}
	most := int64(largeImage * s.containers)
	sum = min(max(sum, smallImages), most)
	return core.MaxScore * (sum - smallImages) / (most - smallImages)
}

var (
	_ core.Gate         = Gates{}
	_ core.FilterPlugin = NodeName{}
	_ core.FilterPlugin = Ports{}
	_ core.FilterPlugin = Taint{}
	_ core.ScorePlugin  = Taint{}
	_ core.ScorePlugin  = Image{}
	_ core.Candidates   = (*selected)(nil)
)

// Local implements core.Local.
func (named) Local() {}

// Local implements core.Local.
func (free) Local() {}
