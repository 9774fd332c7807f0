// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// State is the cluster as the scheduler sees it: the objects that it was told of, and what it has decided but not yet
// seen confirmed. One goroutine owns it.
type State struct {
	nodes map[string]*Node
	// pods are the assigned and assumed ones by UID.
	pods    map[types.UID]*placed
	objects *Objects
	// nominated are pods that wait for room on a node, by node and UID.
	nominated map[string]map[types.UID]*Pod
	// nominations tells the node of each nominated pod.
	nominations map[types.UID]string

	generation uint64
	dirty      map[string]struct{} // nodes that changed since the last snapshot
	epoch      uint64
	relist     bool // nodes came or went since the last snapshot
	snapshot   *Snapshot

	// changes are the nodes that changed with each snapshot after the one with the stamp changesSince; tallies follow them.
	changes      []change
	changesSince uint64
	tallies      map[string]*counter

	// carried are the different terms of the pods that are placed, by key; terms lists them, nil after a change.
	carried map[string]*carriers
	terms   []Carried
}

// carriers are the pods that have a term.
type carriers struct {
	Carried
	pods int
}

// placed is a pod on a node.
type placed struct {
	pod     *Pod
	node    string
	assumed bool // decided by us, and not yet seen in the API
}

// NewState makes an empty state.
func NewState() *State {
	return &State{
		nodes: map[string]*Node{}, pods: map[types.UID]*placed{}, objects: newObjects(),
		nominated: map[string]map[types.UID]*Pod{}, nominations: map[types.UID]string{}, dirty: map[string]struct{}{},
		tallies: map[string]*counter{}, carried: map[string]*carriers{},
	}
}

// Objects returns what is known besides nodes and pods.
func (s *State) Objects() *Objects { return s.objects }

func (s *State) node(name string) *Node {
	n := s.nodes[name]
	if n == nil {
		n = newNode()
		s.nodes[name] = n
	}
	return n
}

func (s *State) touch(name string) *Node {
	n := s.node(name)
	s.generation++
	n.Generation = s.generation
	s.dirty[name] = struct{}{}
	return n
}

// PutNode takes in a node, new or changed.
func (s *State) PutNode(node *corev1.Node) []Event {
	n := s.touch(node.Name)
	old := n.Node
	n.setObject(node)
	if old == nil {
		s.relist = true
		return []Event{{Kind: Nodes, Action: Add, New: node}}
	}
	if action := nodeActions(old, node); action != 0 {
		return []Event{{Kind: Nodes, Action: action, Old: old, New: node}}
	}
	return nil
}

// DropNode forgets a node. What was on it stays counted until the pods go too.
func (s *State) DropNode(name string) []Event {
	n := s.nodes[name]
	if n == nil || n.Node == nil {
		return nil
	}
	old := n.Node
	s.touch(name).setObject(nil)
	s.relist = true
	s.forgetEmpty(name)
	return []Event{{Kind: Nodes, Action: Delete, Old: old}}
}

func (s *State) forgetEmpty(name string) {
	if n := s.nodes[name]; n != nil && n.Node == nil && len(n.Pods) == 0 {
		delete(s.nodes, name)
	}
}

// PutPod takes in a pod that has a node.
func (s *State) PutPod(object *corev1.Pod) []Event {
	pod := NewPod(object)
	known := s.pods[pod.UID]
	if known == nil {
		s.place(pod, false)
		return []Event{{Kind: AssignedPods, Action: Add, New: pod}}
	}
	s.unplace(known)
	s.place(pod, false)
	if known.assumed {
		return []Event{{Kind: AssignedPods, Action: Add, New: pod}}
	}
	if action := podActions(known.pod, pod); action != 0 {
		return []Event{{Kind: AssignedPods, Action: action, Old: known.pod, New: pod}}
	}
	return nil
}

// DropPod forgets a pod that is gone or finished.
func (s *State) DropPod(uid types.UID) []Event {
	s.Nominate(nil, uid, "")
	known := s.pods[uid]
	if known == nil {
		return nil
	}
	s.unplace(known)
	return []Event{{Kind: AssignedPods, Action: Delete, Old: known.pod}}
}

func (s *State) place(pod *Pod, assumed bool) {
	s.Nominate(nil, pod.UID, "")
	s.pods[pod.UID] = &placed{pod: pod, node: pod.Spec.NodeName, assumed: assumed}
	s.touch(pod.Spec.NodeName).WithPod(pod)
	for _, c := range pod.carried {
		if known := s.carried[c.Key]; known != nil {
			known.pods++
			continue
		}
		s.carried[c.Key], s.terms = &carriers{Carried: c, pods: 1}, nil
	}
}

func (s *State) unplace(p *placed) {
	delete(s.pods, p.pod.UID)
	s.touch(p.node).WithoutPod(p.pod)
	s.forgetEmpty(p.node)
	for _, c := range p.pod.carried {
		known := s.carried[c.Key]
		if known.pods--; known.pods == 0 {
			delete(s.carried, c.Key)
			s.terms = nil
		}
	}
}

// Assigned returns the pod with that UID, if it has a node in the API or by a decision of ours.
func (s *State) Assigned(uid types.UID) *Pod {
	if p := s.pods[uid]; p != nil {
		return p.pod
	}
	return nil
}

// Assume counts a pod on the node that was decided, and the plan's objects as changed, until the API confirms it or
// Forget takes it back.
func (s *State) Assume(pod *Pod, node string, plan *Plan) {
	object := *pod.Pod
	object.Spec.NodeName = node
	assumed := *pod
	assumed.Pod = &object
	s.place(&assumed, true)
	if plan != nil {
		s.objects.assume(plan)
	}
}

// Forget takes back an Assume whose decision could not be carried out.
func (s *State) Forget(uid types.UID, plan *Plan) []Event {
	if plan != nil {
		s.objects.restore(plan)
	}
	known := s.pods[uid]
	if known == nil || !known.assumed {
		return nil
	}
	s.unplace(known)
	return []Event{{Kind: AssignedPods, Action: Delete, Old: known.pod}}
}

// Nominate notes that a pod waits for room on a node, so that others of lower priority don't take it; an empty node
// ends that.
func (s *State) Nominate(pod *Pod, uid types.UID, node string) {
	if old, ok := s.nominations[uid]; ok {
		delete(s.nominations, uid)
		delete(s.nominated[old], uid)
		if len(s.nominated[old]) == 0 {
			delete(s.nominated, old)
		}
	}
	if node == "" {
		return
	}
	s.nominations[uid] = node
	if s.nominated[node] == nil {
		s.nominated[node] = map[types.UID]*Pod{}
	}
	s.nominated[node][uid] = pod
}

// Nominated returns the node that a pod waits for room on.
func (s *State) Nominated(uid types.UID) string { return s.nominations[uid] }

// Snapshot is the cluster at one moment. Nodes in it never change; the other objects are those of the State and hold
// until its owner takes in the next change.
type Snapshot struct {
	// Nodes are ordered by name.
	Nodes []*Node
	// Terms are the different terms of the pods that are placed, in no order.
	Terms []Carried
	// ImageNodes counts the nodes that have an image.
	ImageNodes map[string]int
	*Objects

	// epoch changes when nodes come or go, and so the meaning of indexes.
	epoch       uint64
	byName      map[string]int
	nominated   map[string]map[types.UID]*Pod
	nominations map[types.UID]string

	// stamp is the generation of the newest node; changes since another one are those that tallies count anew.
	stamp        uint64
	changes      []change
	changesSince uint64
	tallies      map[string]*counter
}

// Node returns a node by name, or nil.
func (s *Snapshot) Node(name string) *Node {
	if i, ok := s.byName[name]; ok {
		return s.Nodes[i]
	}
	return nil
}

// NominatedTo returns the pods that wait for room on a node.
func (s *Snapshot) NominatedTo(node string) []*Pod {
	waiting := s.nominated[node]
	if len(waiting) == 0 {
		return nil
	}
	out := make([]*Pod, 0, len(waiting))
	for _, pod := range waiting {
		out = append(out, pod)
	}
	slices.SortFunc(out, func(a, b *Pod) int { return strings.Compare(string(a.UID), string(b.UID)) })
	return out
}

// Snapshot returns the present state. What did not change since the last one is shared with it.
func (s *State) Snapshot() *Snapshot {
	if s.snapshot != nil && !s.relist && len(s.dirty) == 0 {
		return s.snapshot
	}
	next := &Snapshot{Objects: s.objects, nominated: s.nominated, nominations: s.nominations, ImageNodes: map[string]int{}}
	if s.snapshot == nil || s.relist {
		next.byName = make(map[string]int, len(s.nodes))
		for name, n := range s.nodes {
			if n.Node != nil {
				next.Nodes = append(next.Nodes, s.frozen(name, n))
			}
		}
		slices.SortFunc(next.Nodes, func(a, b *Node) int { return strings.Compare(a.Name, b.Name) })
		s.epoch++
		for i, n := range next.Nodes {
			next.byName[n.Name] = i
			if n.index != i {
				moved := *n // the last snapshot keeps its own
				moved.index = i
				next.Nodes[i] = &moved
			}
		}
	} else {
		next.byName = s.snapshot.byName
		next.Nodes = slices.Clone(s.snapshot.Nodes)
		for name := range s.dirty {
			if i, ok := next.byName[name]; ok {
				next.Nodes[i] = s.nodes[name].Clone()
				next.Nodes[i].index = i
			}
		}
	}
	next.epoch = s.epoch
	s.noteChanges(next)
	if s.terms == nil {
		for _, c := range s.carried {
			s.terms = append(s.terms, c.Carried)
		}
	}
	next.Terms = s.terms
	s.countImages(next)
	clear(s.dirty)
	s.relist, s.snapshot = false, next
	return next
}

// noteChanges gives the next snapshot the record of what changed.
func (s *State) noteChanges(next *Snapshot) {
	if s.snapshot == nil || s.relist {
		s.changes, s.changesSince = nil, s.generation
	} else {
		if limit := 2 * len(next.Nodes); len(s.changes) > limit {
			kept := slices.Clone(s.changes[limit/2:]) // snapshots share the record: it only grows
			s.changes, s.changesSince = kept, kept[0].stamp
		}
		for name := range s.dirty {
			if i, ok := next.byName[name]; ok {
				s.changes = append(s.changes, change{stamp: s.generation, index: i})
			}
		}
	}
	next.stamp, next.changes, next.changesSince, next.tallies = s.generation, s.changes, s.changesSince, s.tallies
}

// countImages takes the counts of the last snapshot over when no node's object changed.
func (s *State) countImages(next *Snapshot) {
	if s.snapshot != nil && !s.relist {
		same := true
		for name := range s.dirty {
			i, ok := next.byName[name]
			if ok && s.snapshot.Nodes[i].Node != next.Nodes[i].Node {
				same = false
				break
			}
		}
		if same {
			next.ImageNodes = s.snapshot.ImageNodes
			return
		}
	}
	for _, n := range next.Nodes {
		for name := range n.Images {
			next.ImageNodes[name]++
		}
	}
}

// frozen returns the last snapshot's copy of a node, if it is still true, or a new one.
func (s *State) frozen(name string, n *Node) *Node {
	if s.snapshot != nil {
		if old := s.snapshot.Node(name); old != nil && old.Generation == n.Generation {
			return old
		}
	}
	return n.Clone()
}
