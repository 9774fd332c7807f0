// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package statefulset

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/rules/pods"
)

// parse splits a pod's name into its set's and its ordinal, which is -1 for a name without one.
func parse(pod *corev1.Pod) (parent string, ordinal int) {
	i := strings.LastIndexByte(pod.Name, '-')
	if i < 0 {
		return "", -1
	}
	n, err := strconv.ParseUint(pod.Name[i+1:], 10, 31)
	if err != nil {
		return pod.Name[:i], -1
	}
	return pod.Name[:i], int(n)
}

func ordinalOf(pod *corev1.Pod) int {
	_, ordinal := parse(pod)
	return ordinal
}

// memberOf reports whether a pod's name makes it one of the set's.
func memberOf(set *appsv1.StatefulSet, pod *corev1.Pod) bool {
	parent, _ := parse(pod)
	return parent == set.Name
}

func replicas(set *appsv1.StatefulSet) int32 {
	if set.Spec.Replicas == nil {
		return 1
	}
	return *set.Spec.Replicas
}

func startOrdinal(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals == nil {
		return 0
	}
	return int(set.Spec.Ordinals.Start)
}

// inRange reports whether the set wants a pod with this ordinal.
func inRange(set *appsv1.StatefulSet, ordinal int) bool {
	start := startOrdinal(set)
	return ordinal >= start && ordinal < start+int(replicas(set))
}

func revisionOf(pod *corev1.Pod) string { return pod.Labels[appsv1.StatefulSetRevisionLabel] }

// runs reports whether a pod's phase is Running and it is ready.
func runs(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodRunning && pods.IsReady(pod) }

// newPod makes the pod of an ordinal from a template.
func newPod(set *appsv1.StatefulSet, template *corev1.PodTemplateSpec, revision string, ordinal int) *corev1.Pod {
	pod := pods.FromTemplate(template, set.Namespace, set.Name, metav1.NewControllerRef(set, kind))
	pod.GenerateName, pod.Name = "", fmt.Sprintf("%s-%d", set.Name, ordinal)
	setIdentity(pod)
	pod.Labels[appsv1.StatefulSetRevisionLabel] = revision
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, set.Spec.ServiceName
	setStorage(set, pod)
	return pod
}

func setIdentity(pod *corev1.Pod) {
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[appsv1.StatefulSetPodNameLabel] = pod.Name
	pod.Labels[appsv1.PodIndexLabel] = strconv.Itoa(ordinalOf(pod))
}

func hasIdentity(pod *corev1.Pod) bool { return pod.Labels[appsv1.StatefulSetPodNameLabel] == pod.Name }

func claimName(set *appsv1.StatefulSet, template *corev1.PersistentVolumeClaim, ordinal int) string {
	return fmt.Sprintf("%s-%s-%d", template.Name, set.Name, ordinal)
}

// isClaimOf reports whether a pod of the set, of whatever ordinal, has a claim of that name.
func isClaimOf(set *appsv1.StatefulSet, name string) bool {
	i := strings.LastIndexByte(name, '-')
	if i < 0 {
		return false
	}
	if _, err := strconv.ParseUint(name[i+1:], 10, 31); err != nil {
		return false
	}
	return slices.ContainsFunc(set.Spec.VolumeClaimTemplates, func(template corev1.PersistentVolumeClaim) bool {
		return name[:i] == template.Name+"-"+set.Name
	})
}

// setStorage makes a pod use its own claims; volumes of the template by the same names give way.
func setStorage(set *appsv1.StatefulSet, pod *corev1.Pod) {
	ordinal := ordinalOf(pod)
	var volumes []corev1.Volume
	own := map[string]bool{}
	for i := range set.Spec.VolumeClaimTemplates {
		template := &set.Spec.VolumeClaimTemplates[i]
		own[template.Name] = true
		volumes = append(volumes, corev1.Volume{Name: template.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, template, ordinal)},
		}})
	}
	for _, v := range pod.Spec.Volumes {
		if !own[v.Name] {
			volumes = append(volumes, v)
		}
	}
	pod.Spec.Volumes = volumes
}

// claimsOf returns the claims that the pod of an ordinal needs.
func claimsOf(set *appsv1.StatefulSet, ordinal int) []*corev1.PersistentVolumeClaim {
	var out []*corev1.PersistentVolumeClaim
	for i := range set.Spec.VolumeClaimTemplates {
		template := &set.Spec.VolumeClaimTemplates[i]
		claim := template.DeepCopy()
		claim.Name, claim.Namespace = claimName(set, template, ordinal), set.Namespace
		if claim.Labels == nil {
			claim.Labels = map[string]string{}
		}
		maps.Copy(claim.Labels, set.Spec.Selector.MatchLabels)
		out = append(out, claim)
	}
	return out
}
