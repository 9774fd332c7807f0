// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package daemonset

import (
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"kogge.dev/kogge/rules/pods"
	"kogge.dev/kogge/rules/taints"
)

// daemonTolerations are what every daemon pod tolerates: the conditions of the node that it serves.
var daemonTolerations = []corev1.Toleration{
	{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
	{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
	{Key: corev1.TaintNodeDiskPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodePIDPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
}

// networkToleration is added for pods in the host's network.
var networkToleration = corev1.Toleration{
	Key: corev1.TaintNodeNetworkUnavailable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule,
}

func tolerate(spec *corev1.PodSpec) {
	add := func(t corev1.Toleration) {
		if !slices.ContainsFunc(spec.Tolerations, func(k corev1.Toleration) bool { return k.MatchToleration(&t) }) {
			spec.Tolerations = append(spec.Tolerations, t)
		}
	}
	for _, t := range daemonTolerations {
		add(t)
	}
	if spec.HostNetwork {
		add(networkToleration)
	}
}

// fits tells whether a DaemonSet should start a pod on a node, and whether one that runs there may stay.
func fits(ds *appsv1.DaemonSet, node *corev1.Node) (shouldRun, shouldStay bool) {
	pod := podFor(ds, node.Name, "", nil)
	if ds.Spec.Template.Spec.NodeName != "" && ds.Spec.Template.Spec.NodeName != node.Name {
		return false, false
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !ok {
		return false, false
	}
	if taints.Untolerated(node.Spec.Taints, pod.Spec.Tolerations, corev1.TaintEffectNoExecute) != nil {
		return false, false
	}
	return taints.Untolerated(node.Spec.Taints, pod.Spec.Tolerations, corev1.TaintEffectNoSchedule) == nil, true
}

// podFor makes the pod of a DaemonSet for one node. The scheduler binds it: an affinity to the node's name is all that
// says where it belongs.
func podFor(ds *appsv1.DaemonSet, node, hash string, owner *metav1.OwnerReference) *corev1.Pod {
	pod := pods.FromTemplate(&ds.Spec.Template, ds.Namespace, ds.Name, owner)
	tolerate(&pod.Spec)
	if hash != "" {
		labels := map[string]string{appsv1.DefaultDaemonSetUniqueLabelKey: hash}
		maps.Copy(labels, pod.Labels)
		labels[appsv1.DefaultDaemonSetUniqueLabelKey] = hash
		pod.Labels = labels
	}
	pinTo(&pod.Spec, node)
	return pod
}

// pinTo replaces the node terms of the affinity by the node's name, keeping what else is required within each term.
func pinTo(spec *corev1.PodSpec, node string) {
	requirement := corev1.NodeSelectorRequirement{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	if spec.Affinity.NodeAffinity == nil {
		spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	affinity := spec.Affinity.NodeAffinity
	required := affinity.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil || len(required.NodeSelectorTerms) == 0 {
		affinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{requirement}}},
		}
		return
	}
	for i := range required.NodeSelectorTerms {
		required.NodeSelectorTerms[i].MatchFields = []corev1.NodeSelectorRequirement{requirement}
	}
}

// targetNode is where a pod runs or, while it is not bound, what its affinity pins it to.
func targetNode(pod *corev1.Pod) string {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil {
		return ""
	}
	required := pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil {
		return ""
	}
	for _, term := range required.NodeSelectorTerms {
		for _, f := range term.MatchFields {
			if f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}
