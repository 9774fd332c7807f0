// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package plugins lists the scheduler's plugins in the order in which they are asked.
package plugins

import (
	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/scheduler/core"
	"kogge.dev/kogge/scheduler/plugins/devices"
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

// weight is how much a plugin's score counts.
func weight(plugin string) int64 {
	switch plugin {
	case placement.TaintName:
		return 3
	case placement.AffinityName, spread.Name, podaffinity.Name:
		return 2
	}
	return 1
}

// Point is where a plugin takes part.
type Point int

// The points that users can turn plugins off at.
const (
	Gate Point = iota
	Filter
	Preempt
	Score
)

// Choice tells whether a plugin takes part at a point, and the weight of its score, 0 for the default.
type Choice func(plugin string, at Point) (on bool, weight int64)

// Everything is the Choice of the default profile.
func Everything(string, Point) (bool, int64) { return true, 0 }

// Names are those of every plugin.
func Names() []string {
	made, err := all(Config{})
	if err != nil {
		return nil // only AddedAffinity can be wrong
	}
	var out []string
	for _, p := range made {
		out = append(out, p.Name())
	}
	return out
}

// Profile puts plugins together, each where it has something to say and was chosen.
func Profile(name string, config Config, choice Choice) (*core.Profile, error) {
	made, err := all(config)
	if err != nil {
		return nil, err
	}
	profile := &core.Profile{Name: name}
	for _, p := range made {
		on := func(at Point) bool { ok, _ := choice(p.Name(), at); return ok }
		if gate, ok := p.(core.Gate); ok && on(Gate) {
			profile.Gates = append(profile.Gates, gate)
		}
		if filter, ok := p.(core.FilterPlugin); ok && on(Filter) {
			profile.Filters = append(profile.Filters, filter)
		}
		if preempter, ok := p.(core.Preempter); ok && on(Preempt) {
			profile.Preempter = preempter
		}
		if score, ok := p.(core.ScorePlugin); ok && on(Score) {
			_, chosen := choice(p.Name(), Score)
			if chosen == 0 {
				chosen = weight(p.Name())
			}
			profile.Scores = append(profile.Scores, core.Weighted{ScorePlugin: score, Weight: chosen})
		}
		if waker, ok := p.(core.Waker); ok {
			profile.Wakers = append(profile.Wakers, waker)
		}
	}
	return profile, nil
}

// all makes every plugin. The order is that in which filters are asked: cheap ones, and those that rule out for good,
// first.
func all(config Config) ([]core.Plugin, error) {
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
		devices.New(),
		spread.New(config.Spread),
		podaffinity.New(config.PodAffinity),
		placement.Features{},
		eviction.Plugin{},
		resources.NewBalanced(config.Balanced),
		placement.Image{},
	}, nil
}
