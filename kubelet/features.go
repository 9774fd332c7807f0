// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/component-helpers/nodedeclaredfeatures"
	"k8s.io/component-helpers/nodedeclaredfeatures/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/kubelet/pod"
)

// declaredFeatures are what node.status.declaredFeatures tells the API server and the scheduler (KEP-5328), in order of names.
// Not declared, because it is not done here: WebSockets up to the kubelet (the API server translates them), and resizing of
// pod-level resources.
func declaredFeatures() []string {
	return nodedeclaredfeatures.DefaultFramework.DiscoverNodeFeatures(&nodedeclaredfeatures.NodeConfiguration{
		FeatureGates: types.FeatureGateMap{
			"InPlacePodVerticalScalingInitContainers": true, "RestartAllContainersOnContainerExits": true,
		},
		Version: version.MajorMinor(1, 36),
	})
}

// admitDeclared refuses a pod that needs a feature which this node does not declare: it was bound past the scheduler.
func admitDeclared(p *corev1.Pod) *pod.End {
	reject := func(message string) *pod.End {
		return &pod.End{Rejected: true, Reason: "PodFeatureUnsupported", Message: "Pod was rejected: " + message}
	}
	framework := nodedeclaredfeatures.DefaultFramework
	needed, err := framework.InferForPodScheduling(&nodedeclaredfeatures.PodInfo{Spec: &p.Spec, Status: &p.Status}, version.MajorMinor(1, 36))
	if err != nil {
		return reject(fmt.Sprintf("Failed to infer pod's feature requirements: %v", err))
	}
	result, err := framework.MatchNodeFeatureSet(needed, framework.TryMap(declaredFeatures()))
	switch {
	case err != nil:
		return reject(fmt.Sprintf("Failed to match pod's feature requirements against the node: %v", err))
	case !result.IsMatch:
		return reject("Pod requires node features that are not available: " + strings.Join(result.UnsatisfiedRequirements, ", "))
	}
	return nil
}

// ownUsers reports whether a pod wants a user namespace of its own.
func ownUsers(p *corev1.Pod) bool { return p.Spec.HostUsers != nil && !*p.Spec.HostUsers }

// canUserNamespace reports whether the pod's runtime handler can make user namespaces, which includes mounts that map ids.
func (k *Kubelet) canUserNamespace(p *corev1.Pod) bool {
	handler, err := k.runtimeHandler(p)
	return err == nil && k.features[handler].GetUserNamespaces()
}

// userNamespace returns the ids of a pod that has a user namespace of its own, else nil.
func (k *Kubelet) userNamespace(p *corev1.Pod) (*runtimeapi.UserNamespace, error) {
	if !ownUsers(p) {
		return nil, nil
	}
	return k.users.Of(p.UID)
}
