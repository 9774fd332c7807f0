// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/component-helpers/nodedeclaredfeatures"

	"kogge.dev/kogge/scheduler/core"
)

// Features sends pods that use what only newer kubelets can do to nodes that declare it in status.declaredFeatures (KEP-5328).
type Features struct{}

// Name implements core.Plugin.
func (Features) Name() string { return FeaturesName }

// Filter implements core.FilterPlugin.
func (Features) Filter(_ *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	needed, err := nodedeclaredfeatures.DefaultFramework.InferForPodScheduling(
		&nodedeclaredfeatures.PodInfo{Spec: &pod.Spec}, version.MajorMinor(1, 36))
	switch {
	case err != nil:
		return nil, core.Fail(FeaturesName, err)
	case needed.IsEmpty():
		return nil, nil
	}
	return declaring{needed}, nil
}

// Hints implements core.Waker.
func (Features) Hints() []core.Hint {
	return []core.Hint{{Kind: core.Nodes, Actions: core.Add | core.UpdateFeatures, Wakes: func(_ *core.Pod, e core.Event) bool {
		old, _ := e.Old.(*corev1.Node)
		node, ok := e.New.(*corev1.Node)
		return !ok || old == nil || !slices.Equal(old.Status.DeclaredFeatures, node.Status.DeclaredFeatures)
	}}}
}

// declaring wants nodes that declare every needed feature.
type declaring struct {
	needed nodedeclaredfeatures.FeatureSet
}

// Check implements core.Filter.
func (f declaring) Check(node *core.Node) *core.Status {
	has, err := f.needed.IsSubset(nodedeclaredfeatures.DefaultFramework.TryMap(node.Status.DeclaredFeatures))
	switch {
	case err != nil:
		return core.Fail(FeaturesName, err)
	case !has:
		return core.RefuseForGood(FeaturesName, "node(s) didn't match Pod's required features")
	}
	return nil
}

var (
	_ core.FilterPlugin = Features{}
	_ core.Waker        = Features{}
)
