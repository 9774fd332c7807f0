// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
)

// Local marks a Filter or Scorer whose answer depends on nothing but the node with its pods and on those properties of the
// pod that make its class (classOf). Such answers are kept until the node changes.
type Local interface{ Local() }

// maxClasses bounds how many classes are remembered; a cluster's pods come from few templates.
const maxClasses = 64

// Memory is what a scheduler keeps from one cycle to the next. It changes how fast decisions are, and which of equal nodes
// is taken; nothing else.
type Memory struct {
	turn    uint64
	classes map[string]*class
}

// among breaks ties in turn, so that equal nodes get equal shares and the same history gives the same decisions.
func (m *Memory) among(n int) int {
	if n == 1 {
		return 0
	}
	m.turn++
	return int(m.turn % uint64(n))
}

// class is what local plugins said of each node for pods of one kind. Slices are indexed as Snapshot.Nodes is.
type class struct {
	epoch uint64 // of the snapshots that the indexes belong to
	// judged are the nodes' generations at which status was found; 0 is none.
	judged []uint64
	status []*Status
	scores []remembered // by position of the plugin in the profile
}

// remembered are the scores of one plugin, and the nodes' generations at which they were found.
type remembered struct {
	value []int64
	at    []uint64
}

// class returns what is remembered for a pod, emptied when nodes came or went meanwhile.
func (m *Memory) class(p *Profile, s *Snapshot, pod *Pod) *class {
	key := p.Name + "\x00" + pod.class
	c := m.classes[key]
	if c != nil && c.epoch == s.epoch {
		return c
	}
	if m.classes == nil || len(m.classes) >= maxClasses {
		m.classes = map[string]*class{}
	}
	n := len(s.Nodes)
	c = &class{epoch: s.epoch, judged: make([]uint64, n), status: make([]*Status, n), scores: make([]remembered, len(p.Scores))}
	m.classes[key] = c
	return c
}

// classOf describes everything of a pod that local plugins may look at.
func classOf(p *Pod) string {
	var affinity *corev1.NodeAffinity
	if p.Spec.Affinity != nil {
		affinity = p.Spec.Affinity.NodeAffinity
	}
	text, err := json.Marshal(struct {
		Requests, Scored Amounts
		Ports            []HostPort
		NodeName         string
		Selector         map[string]string
		Affinity         *corev1.NodeAffinity
		Tolerations      []corev1.Toleration
	}{p.Requests, p.Scored, p.Ports, p.Spec.NodeName, p.Spec.NodeSelector, affinity, p.Spec.Tolerations})
	if err != nil {
		return string(p.UID) // a class of its own
	}
	return string(text)
}
