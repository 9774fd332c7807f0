// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/podspec"
)

// proxyVerbs are those of the proxy subresources, whose requests are passed on whatever their method.
func proxyVerbs() []string { return []string{"create", "delete", "get", "patch", "update"} }

func node() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:     "nodes",
		Singular:     "node",
		ShortNames:   []string{"no"},
		NoGeneration: true,
		Storage:      kinds.Storage{Prefix: "minions"},
		Subresources: []kinds.Subresource{
			{
				Name:             "proxy",
				Verbs:            proxyVerbs(),
				GroupVersionKind: version.WithKind("NodeProxyOptions"),
				Connect:          true,
			},
			kinds.Status(prepareNodeStatus, validateNodeChange),
		},
	}, version.WithKind("Node"),
		func() *corev1.Node { return &corev1.Node{} },
		func() runtime.Object { return &corev1.NodeList{} },
		kinds.Strategy[*corev1.Node]{
			Default: defaultNode,
			// A node may bring its status along when it is created, since its kubelet creates it.
			PrepareCreate: func(_ kinds.Request, n *corev1.Node) {
				n.Spec.ConfigSource = nil
				n.Status.Config = nil
			},
			PrepareUpdate: func(_ kinds.Request, new, old *corev1.Node) {
				new.Status = old.Status
				if old.Spec.ConfigSource == nil {
					new.Spec.ConfigSource = nil
				}
			},
			Validate:       validateNode,
			ValidateUpdate: validateNodeUpdate,
			Warn:           warnNode,
			Fields: func(n *corev1.Node) fields.Set {
				return fields.Set{"spec.unschedulable": strconv.FormatBool(n.Spec.Unschedulable)}
			},
			Columns: nodeColumns(),
			Row:     nodeRow,
		})
}

// defaultNode takes all capacity as allocatable when the kubelet says nothing else. A node with one pod CIDR has it in
// both its fields.
func defaultNode(n *corev1.Node) {
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
	podspec.RoundUp(n.Status.Capacity)
	podspec.RoundUp(n.Status.Allocatable)
	if n.Spec.PodCIDR != "" && (len(n.Spec.PodCIDRs) == 0 || n.Spec.PodCIDRs[0] != n.Spec.PodCIDR) {
		n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	}
	if n.Spec.PodCIDR == "" && len(n.Spec.PodCIDRs) > 0 {
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	}
}

func prepareNodeStatus(_ kinds.Request, new, old *corev1.Node) {
	new.Spec = old.Spec
	if old.Status.Config == nil {
		new.Status.Config = nil
	}
}

func warnNode(_ kinds.Request, n, _ *corev1.Node) []string {
	var warnings []string
	if n.Spec.ConfigSource != nil {
		warnings = append(warnings, "spec.configSource: the feature is removed")
	}
	if n.Spec.DoNotUseExternalID != "" {
		warnings = append(warnings, "spec.externalID: this field is deprecated, and is unused by Kubernetes")
	}
	for i, cidr := range n.Spec.PodCIDRs {
		warnings = append(warnings, validation.GetWarningsForCIDR(field.NewPath("spec", "podCIDRs").Index(i), cidr)...)
	}
	return warnings
}
