// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/rules/volumes"
)

// Pod is a pod with what every cycle asks of it, computed once per revision. It is immutable.
type Pod struct {
	*corev1.Pod

	// Requests is what a node must have free for the pod; Scored is what scoring assumes that it uses.
	Requests, Scored Amounts
	Ports            []HostPort
	Priority         int32

	// Terms of pod affinity, parsed.
	RequiredAffinity, RequiredAntiAffinity   []Term
	PreferredAffinity, PreferredAntiAffinity []WeightedTerm

	carried []Carried
	claims  []types.NamespacedName
	class   string // of pods that local plugins treat alike

	// Invalid says why the affinity terms can't be understood; such a pod can't be scheduled.
	Invalid error
}

// Key names the pod.
func (p *Pod) Key() types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}

// NewPod computes what cycles need of pod.
func NewPod(pod *corev1.Pod) *Pod {
	p := &Pod{Pod: pod, Ports: hostPorts(pod), claims: volumes.ClaimsOf(pod)}
	p.Requests, p.Scored = requestsOf(pod)
	if pod.Spec.Priority != nil {
		p.Priority = *pod.Spec.Priority
	}
	p.parseAffinity()
	p.class = classOf(p)
	return p
}

// Class names the pods that are alike in what they ask of a node: requests, ports, node selector, node affinity and tolerations.
func (p *Pod) Class() string { return p.class }

// Claims returns the names of the claims that the pod mounts, those of its generic ephemeral volumes included.
func (p *Pod) Claims() []types.NamespacedName { return p.claims }
