// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Node is a node with the sums over its pods. In a snapshot it is immutable; a Clone may be changed by WithPod and
// WithoutPod, to try what would be.
type Node struct {
	*corev1.Node

	// Pods are those bound to the node or assumed to be, in no order that means anything.
	Pods []*Pod
	// WithTerms are those of Pods that have pod affinity or anti-affinity terms.
	WithTerms []*Pod

	// Requested is the sum of the pods' requests, Scored of what scoring assumes.
	Requested, Scored Amounts
	// Allocatable is what pods may ask for, MaxPods how many there may be.
	Allocatable Amounts
	MaxPods     int64
	Ports       map[HostPort]int
	// Claims counts the pods that mount each claim.
	Claims map[types.NamespacedName]int
	// Images are the sizes in bytes of the images that the node has, by every name.
	Images map[string]int64

	// Generation grows with every change of the node or its pods, over all nodes.
	Generation uint64

	index int // in Snapshot.Nodes
}

func newNode() *Node {
	return &Node{Ports: map[HostPort]int{}, Claims: map[types.NamespacedName]int{}}
}

func (n *Node) setObject(node *corev1.Node) {
	n.Node = node
	n.Allocatable, n.MaxPods = Amounts{}, 0
	n.Images = map[string]int64{}
	if node == nil {
		return
	}
	n.Allocatable = AmountsOf(node.Status.Allocatable)
	n.MaxPods = node.Status.Allocatable.Pods().Value()
	for _, image := range node.Status.Images {
		for _, name := range image.Names {
			n.Images[name] = image.SizeBytes
		}
	}
}

// Clone returns a copy that may be changed.
func (n *Node) Clone() *Node {
	c := *n
	c.Pods, c.WithTerms = slices.Clone(n.Pods), slices.Clone(n.WithTerms)
	c.Ports, c.Claims = maps.Clone(n.Ports), maps.Clone(n.Claims)
	return &c
}

// WithPod adds a pod to a clone.
func (n *Node) WithPod(pod *Pod) {
	n.Pods = append(n.Pods, pod)
	if len(pod.carried) > 0 {
		n.WithTerms = append(n.WithTerms, pod)
	}
	n.count(pod, 1)
}

// WithoutPod takes a pod, by UID, from a clone and reports whether it was there.
func (n *Node) WithoutPod(pod *Pod) bool {
	i := slices.IndexFunc(n.Pods, func(p *Pod) bool { return p.UID == pod.UID })
	if i < 0 {
		return false
	}
	known := n.Pods[i]
	n.Pods = drop(n.Pods, known)
	n.WithTerms = drop(n.WithTerms, known)
	n.count(known, -1)
	return true
}

func drop(list []*Pod, pod *Pod) []*Pod {
	i := slices.Index(list, pod)
	if i < 0 {
		return list
	}
	list[i] = list[len(list)-1]
	list[len(list)-1] = nil
	return list[:len(list)-1]
}

func (n *Node) count(pod *Pod, sign int) {
	n.Requested.add(&pod.Requests, int64(sign))
	n.Scored.add(&pod.Scored, int64(sign))
	for _, port := range pod.Ports {
		bump(n.Ports, port, sign)
	}
	for _, claim := range pod.Claims() {
		bump(n.Claims, claim, sign)
	}
}

func bump[K comparable](m map[K]int, key K, by int) {
	m[key] += by
	if m[key] == 0 {
		delete(m, key)
	}
}

// EmptyNode returns a node without pods.
func EmptyNode(node *corev1.Node) *Node {
	n := newNode()
	n.setObject(node)
	return n
}
