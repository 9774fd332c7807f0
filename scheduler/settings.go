// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	configv1 "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/json"

	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/scheduler/core"
	"kogge.dev/kogge/scheduler/plugins"
	"kogge.dev/kogge/scheduler/plugins/podaffinity"
	"kogge.dev/kogge/scheduler/plugins/resources"
	"kogge.dev/kogge/scheduler/plugins/spread"
)

// Settings are the scheduler's own part of a KubeSchedulerConfiguration; the zero value is one default profile.
type Settings struct {
	// FirstBackoff and LastBackoff bound the wait of a pod after a failed attempt; zero means 1 s and 10 s.
	FirstBackoff, LastBackoff time.Duration
	// Profiles; none means the default one for pods of default-scheduler.
	Profiles []configv1.KubeSchedulerProfile
}

// ParseSettings reads a KubeSchedulerConfiguration of kubescheduler.config.k8s.io/v1, strictly.
func ParseSettings(text []byte) (*Settings, error) {
	var in configv1.KubeSchedulerConfiguration
	if err := codec.DecodeFile(text, "KubeSchedulerConfiguration", []schema.GroupVersion{configv1.SchemeGroupVersion}, &in); err != nil {
		return nil, fmt.Errorf("scheduler configuration: %w", err)
	}
	if len(in.Extenders) > 0 {
		return nil, errors.New("scheduler configuration: extenders are not supported")
	}
	s := &Settings{Profiles: in.Profiles}
	if in.PodInitialBackoffSeconds != nil {
		s.FirstBackoff = time.Duration(*in.PodInitialBackoffSeconds) * time.Second
	}
	if in.PodMaxBackoffSeconds != nil {
		s.LastBackoff = time.Duration(*in.PodMaxBackoffSeconds) * time.Second
	}
	if _, err := s.profiles(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Settings) queue() core.QueueConfig {
	return core.QueueConfig{FirstBackoff: s.FirstBackoff, LastBackoff: s.LastBackoff}
}

// profiles makes the plugins of each profile.
func (s *Settings) profiles() (map[string]*core.Profile, error) {
	in := s.Profiles
	if len(in) == 0 {
		in = []configv1.KubeSchedulerProfile{{}}
	}
	out := map[string]*core.Profile{}
	for i := range in {
		profile, err := compile(&in[i])
		if err != nil {
			return nil, fmt.Errorf("scheduler configuration: profiles[%d]: %w", i, err)
		}
		if out[profile.Name] != nil {
			return nil, fmt.Errorf("scheduler configuration: profiles[%d].schedulerName: duplicate value: %q", i, profile.Name)
		}
		out[profile.Name] = profile
	}
	return out, nil
}

// compile makes one profile.
func compile(in *configv1.KubeSchedulerProfile) (*core.Profile, error) {
	name := corev1.DefaultSchedulerName
	if in.SchedulerName != nil && *in.SchedulerName != "" {
		name = *in.SchedulerName
	}
	config, err := pluginConfig(in.PluginConfig)
	if err != nil {
		return nil, err
	}
	choice := in.Plugins
	if choice == nil {
		choice = &configv1.Plugins{}
	}
	if err := checkNames(choice, sets.New("PrioritySort", "DefaultBinder").Insert(plugins.Names()...)); err != nil {
		return nil, err
	}
	return plugins.Profile(name, config, func(plugin string, at plugins.Point) (bool, int64) {
		first, main := pointSets(choice, at)
		if ok, _ := chosen(plugin, configv1.PluginSet{}, first); !ok {
			return false, 0
		}
		return chosen(plugin, choice.MultiPoint, main)
	})
}

// pointSets are what users say about a point, and about what comes before it in upstream's terms.
func pointSets(choice *configv1.Plugins, at plugins.Point) (first, main configv1.PluginSet) {
	switch at {
	case plugins.Gate:
		return first, choice.PreEnqueue
	case plugins.Filter:
		return choice.PreFilter, choice.Filter
	case plugins.Preempt:
		return first, choice.PostFilter
	case plugins.Score:
		return choice.PreScore, choice.Score
	}
	return first, main
}

// checkNames refuses plugins that do not exist, and the choice of none where there must be one.
func checkNames(choice *configv1.Plugins, known sets.Set[string]) error {
	for point, set := range map[string]configv1.PluginSet{
		"preEnqueue": choice.PreEnqueue, "queueSort": choice.QueueSort, "preFilter": choice.PreFilter, "filter": choice.Filter,
		"postFilter": choice.PostFilter, "preScore": choice.PreScore, "score": choice.Score, "reserve": choice.Reserve, "permit": choice.Permit,
		"preBind": choice.PreBind, "bind": choice.Bind, "postBind": choice.PostBind, "multiPoint": choice.MultiPoint,
		"placementGenerate": choice.PlacementGenerate, "placementScore": choice.PlacementScore,
	} {
		for _, p := range set.Enabled {
			if !known.Has(p.Name) {
				return fmt.Errorf("plugins.%s.enabled: %s does not exist", point, p.Name)
			}
		}
		for _, p := range set.Disabled {
			if p.Name != "*" && !known.Has(p.Name) {
				return fmt.Errorf("plugins.%s.disabled: %s does not exist", point, p.Name)
			}
		}
	}
	return nil
}

// chosen reports whether a plugin takes part at a point, and the weight given there, 0 for none.
func chosen(name string, multi, point configv1.PluginSet) (on bool, weight int64) {
	is := func(p configv1.Plugin) bool { return p.Name == name }
	off := func(p configv1.Plugin) bool { return p.Name == name || p.Name == "*" }
	for _, set := range []configv1.PluginSet{point, multi} {
		if i := slices.IndexFunc(set.Enabled, is); i >= 0 {
			if set.Enabled[i].Weight != nil {
				weight = int64(*set.Enabled[i].Weight)
			}
			return true, weight
		}
		if slices.ContainsFunc(set.Disabled, off) {
			return false, 0
		}
	}
	return true, 0
}

// pluginConfig reads the arguments of plugins.
func pluginConfig(in []configv1.PluginConfig) (plugins.Config, error) {
	var out plugins.Config
	for i := range in {
		if err := pluginArgs(&out, in[i].Name, in[i].Args.Raw); err != nil {
			return out, fmt.Errorf("pluginConfig[%d]: %s: %w", i, in[i].Name, err)
		}
	}
	return out, nil
}

// strict reads the arguments of a plugin, which need no kind.
func strict(raw []byte, into any) error {
	strictErrs, err := json.UnmarshalStrict(raw, into)
	if err != nil {
		return err
	}
	return errors.Join(strictErrs...)
}

func pluginArgs(out *plugins.Config, name string, raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	switch name {
	case "NodeAffinity":
		var args configv1.NodeAffinityArgs
		if err := strict(raw, &args); err != nil {
			return err
		}
		out.AddedAffinity = args.AddedAffinity
	case "NodeResourcesFit":
		var args configv1.NodeResourcesFitArgs
		if err := strict(raw, &args); err != nil {
			return err
		}
		return fitConfig(&out.Fit, &args)
	case "NodeResourcesBalancedAllocation":
		var args configv1.NodeResourcesBalancedAllocationArgs
		if err := strict(raw, &args); err != nil {
			return err
		}
		out.Balanced = resourceList(args.Resources)
	case "PodTopologySpread":
		var args configv1.PodTopologySpreadArgs
		if err := strict(raw, &args); err != nil {
			return err
		}
		return spreadConfig(&out.Spread, &args)
	case "InterPodAffinity":
		var args configv1.InterPodAffinityArgs
		if err := strict(raw, &args); err != nil {
			return err
		}
		if w := args.HardPodAffinityWeight; w != nil && (*w < 0 || *w > 100) {
			return fmt.Errorf("hardPodAffinityWeight: invalid value: %d: not in valid range [0-100]", *w)
		}
		out.PodAffinity = podaffinity.Config{RequiredWeight: args.HardPodAffinityWeight, IgnoreExisting: args.IgnorePreferredTermsOfExistingPods}
	case "DefaultPreemption":
		return strict(raw, &configv1.DefaultPreemptionArgs{}) // every candidate is looked at: nothing to limit
	default:
		return errors.New("takes no arguments")
	}
	return nil
}

func spreadConfig(out *spread.Config, args *configv1.PodTopologySpreadArgs) error {
	switch args.DefaultingType {
	case configv1.SystemDefaulting:
		if len(args.DefaultConstraints) > 0 {
			return errors.New("defaultConstraints: invalid value: must be empty when defaultingType is System")
		}
	case configv1.ListDefaulting, "":
		out.Defaults = append([]corev1.TopologySpreadConstraint{}, args.DefaultConstraints...)
	default:
		return fmt.Errorf("defaultingType: unsupported value: %q", args.DefaultingType)
	}
	for i, c := range args.DefaultConstraints {
		if c.LabelSelector != nil {
			return fmt.Errorf("defaultConstraints[%d].labelSelector: must not be set", i)
		}
		if c.MaxSkew <= 0 || c.TopologyKey == "" {
			return fmt.Errorf("defaultConstraints[%d]: maxSkew and topologyKey are required", i)
		}
	}
	return nil
}

func resourceList(in []configv1.ResourceSpec) []resources.Resource {
	var out []resources.Resource
	for _, r := range in {
		out = append(out, resources.Resource{Name: corev1.ResourceName(r.Name), Weight: max(r.Weight, 1)})
	}
	return out
}

func fitConfig(out *resources.FitConfig, args *configv1.NodeResourcesFitArgs) error {
	out.Ignored, out.IgnoredGroups = args.IgnoredResources, args.IgnoredResourceGroups
	strategy := args.ScoringStrategy
	if strategy == nil {
		return nil
	}
	out.Resources = resourceList(strategy.Resources)
	switch strategy.Type {
	case configv1.LeastAllocated, "":
		out.Strategy = resources.LeastAllocated
	case configv1.MostAllocated:
		out.Strategy = resources.MostAllocated
	case configv1.RequestedToCapacityRatio:
		points, err := shape(strategy.RequestedToCapacityRatio)
		if err != nil {
			return err
		}
		out.Strategy = resources.Shaped(points)
	default:
		return fmt.Errorf("scoringStrategy.type: unsupported value: %q", strategy.Type)
	}
	return nil
}

func shape(in *configv1.RequestedToCapacityRatioParam) ([]resources.Point, error) {
	if in == nil || len(in.Shape) == 0 {
		return nil, errors.New("scoringStrategy.requestedToCapacityRatio.shape: at least one point must be specified")
	}
	var out []resources.Point
	for i, p := range in.Shape {
		if p.Utilization < 0 || p.Utilization > 100 || p.Score < 0 || p.Score > 10 || i > 0 && p.Utilization <= in.Shape[i-1].Utilization {
			return nil, fmt.Errorf("scoringStrategy.requestedToCapacityRatio.shape[%d]: invalid value: %+v", i, p)
		}
		// Users give scores of 0 to 10.
		out = append(out, resources.Point{Utilization: int64(p.Utilization), Score: int64(p.Score) * core.MaxScore / 10})
	}
	return out, nil
}
