// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/kinds"
)

func pod() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "pods",
		Singular:       "pod",
		AnswersDeleted: true,
		Reset:          map[string][]string{"status": {"metadata.deletionTimestamp", "metadata.ownerReferences", "spec"}},
		ShortNames:     []string{"po"},
		Categories:     all(),
		Namespaced:     true,
		Storage:        kinds.Storage{Prefix: "pods"},
		Subresources:   podSubresources(),
	}, version.WithKind("Pod"),
		func() *corev1.Pod { return &corev1.Pod{} },
		func() runtime.Object { return &corev1.PodList{} },
		kinds.Strategy[*corev1.Pod]{
			Default:        defaultPod,
			PrepareCreate:  createPod,
			PrepareUpdate:  preparePod,
			Validate:       validatePod,
			ValidateUpdate: validatePodUpdate,
			Warn:           warnPod,
			Fields:         podFields,
			Columns:        podColumns(),
			Row:            podRow,
			Conditions:     podRowConditions,
			GracePeriod:    podGracePeriod,
		})
}

func podSubresources() []kinds.Subresource {
	change := []string{"get", "patch", "update"}
	connect := func(name string, verbs []string, kind schema.GroupVersionKind, object func() kinds.Object) kinds.Subresource {
		return kinds.Subresource{Name: name, Verbs: verbs, GroupVersionKind: kind, New: object, Connect: true}
	}
	stream := []string{"create", "get"}
	status := kinds.Status(preparePodStatus, validatePodStatus)
	status.Warn = warnPodStatus
	return []kinds.Subresource{
		connect("attach", stream, version.WithKind("PodAttachOptions"), nil),
		connect("binding", []string{"create"}, version.WithKind("Binding"), func() kinds.Object { return &corev1.Binding{} }),
		{
			Name:     "ephemeralcontainers",
			Verbs:    change,
			Prepare:  kinds.Pair(prepareEphemeralContainers),
			Validate: kinds.Judge(validateEphemeralContainers),
		},
		connect("eviction", []string{"create"}, policyv1.SchemeGroupVersion.WithKind("Eviction"), func() kinds.Object { return &policyv1.Eviction{} }),
		connect("exec", stream, version.WithKind("PodExecOptions"), nil),
		connect("log", []string{"get"}, schema.GroupVersionKind{}, nil),
		connect("portforward", stream, version.WithKind("PodPortForwardOptions"), nil),
		connect("proxy", proxyVerbs(), version.WithKind("PodProxyOptions"), nil),
		{
			Name:     "resize",
			Verbs:    change,
			Prepare:  kinds.Pair(prepareResize),
			Validate: kinds.Judge(validateResize),
		},
		status,
	}
}

func podFields(p *corev1.Pod) fields.Set {
	ip := ""
	if len(p.Status.PodIPs) > 0 {
		ip = p.Status.PodIPs[0].IP
	}
	return fields.Set{
		"spec.nodeName":            p.Spec.NodeName,
		"spec.restartPolicy":       string(p.Spec.RestartPolicy),
		"spec.schedulerName":       p.Spec.SchedulerName,
		"spec.serviceAccountName":  p.Spec.ServiceAccountName,
		"spec.hostNetwork":         strconv.FormatBool(p.Spec.HostNetwork),
		"status.phase":             string(p.Status.Phase),
		"status.podIP":             ip,
		"status.nominatedNodeName": p.Status.NominatedNodeName,
	}
}

// podGracePeriod lets a pod that runs somewhere end in its own time: what the request says, else the pod's own. One that
// was never scheduled or has ended goes at once.
func podGracePeriod(p *corev1.Pod, opts *metav1.DeleteOptions) (int64, bool) {
	var seconds int64
	switch {
	case opts != nil && opts.GracePeriodSeconds != nil:
		seconds = *opts.GracePeriodSeconds
	case p.Spec.TerminationGracePeriodSeconds != nil:
		seconds = *p.Spec.TerminationGracePeriodSeconds
	}
	if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		seconds = 0
	}
	if seconds < 0 {
		seconds = 1
	}
	return seconds, true
}
