// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package plugins lists the scheduler's plugins in the order in which they are asked.
package plugins

import (
	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/scheduler/core"
	"kogge.dev/kogge/scheduler/plugins/eviction"
	"kogge.dev/kogge/scheduler/plugins/placement"
	"kogge.dev/kogge/scheduler/plugins/podaffinity"
	"kogge.dev/kogge/scheduler/plugins/resources"
	"kogge.dev/kogge/scheduler/plugins/spread"
	"kogge.dev/kogge/scheduler/plugins/storage"
)

// Config sets plugins; the zero value is upstream's default.
type Config struct {
	Fit resources.FitConfig
	// Balanced are the resources that NodeResourcesBalancedAllocation compares; nil means CPU and memory.
	Balanced []resources.Resource
	// AddedAffinity holds for every pod besides its own.
	AddedAffinity *corev1.NodeAffinity
	Spread        spread.Config
	PodAffinity   podaffinity.Config
}

// New makes every plugin. The order is that in which filters are asked: cheap ones, and those that rule out for good,
// first.
func New(config Config) ([]core.Plugin, error) {
	affinity, err := placement.NewAffinity(config.AddedAffinity)
	if err != nil {
		return nil, err
	}
	return []core.Plugin{
		placement.Gates{},
		placement.Unschedulable{},
		placement.NodeName{},
		placement.Taint{},
		affinity,
		placement.Ports{},
		resources.NewFit(config.Fit),
		storage.Restrictions{},
		storage.Limits{},
		storage.Binding{},
		storage.Zone{},
		spread.New(config.Spread),
		podaffinity.New(config.PodAffinity),
		eviction.Plugin{},
		resources.NewBalanced(config.Balanced),
		placement.Image{},
	}, nil
}

// Weights are those of score plugins that do not count once.
func Weights() map[string]int64 {
	return map[string]int64{placement.TaintName: 3, placement.AffinityName: 2, spread.Name: 2, podaffinity.Name: 2}
}
