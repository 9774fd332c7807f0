// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package scheduler_test

import (
	"strings"
	"testing"

	"kogge.dev/kogge/scheduler"
)

const head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"

func TestParseSettings(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		refusal string // part of the error, empty for none
	}{
		"nothing said": {text: head},
		"two profiles": {text: head + `
podInitialBackoffSeconds: 2
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  plugins:
    score:
      disabled: [{name: "*"}]
      enabled: [{name: NodeResourcesFit, weight: 5}]
  pluginConfig:
  - name: NodeResourcesFit
    args:
      scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 2}]}
  - name: PodTopologySpread
    args: {defaultingType: List, defaultConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]}
`},
		"no kind": {text: "parallelism: 3\n", refusal: "Object 'Kind' is missing"},
		"another kind": {
			text: "apiVersion: v1\nkind: Pod\n", refusal: `no kind "Pod" is registered for version "v1"; want KubeSchedulerConfiguration of kubescheduler.config.k8s.io/v1`,
		},
		"a misspelt field": {text: head + "profile: []\n", refusal: `unknown field "profile"`},
		"a field twice":    {text: head + "parallelism: 1\nparallelism: 2\n", refusal: "already set"},
		"an unknown plugin": {
			text: head + "profiles: [{plugins: {filter: {enabled: [{name: Mine}]}}}]\n", refusal: "profiles[0]: plugins.filter.enabled: Mine does not exist",
		},
		"a misspelt argument": {
			text:    head + "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {ignore: [x]}}]}]\n",
			refusal: `profiles[0]: pluginConfig[0]: NodeResourcesFit: unknown field "ignore"`,
		},
		"one name twice": {text: head + "profiles: [{}, {schedulerName: default-scheduler}]\n", refusal: `profiles[1].schedulerName: duplicate value: "default-scheduler"`},
		"an extender":    {text: head + "extenders: [{urlPrefix: \"http://x\"}]\n", refusal: "extenders are not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := scheduler.ParseSettings([]byte(c.text))
			switch {
			case c.refusal == "" && err != nil:
				t.Errorf("ParseSettings = %v, want no error", err)
			case c.refusal != "" && (err == nil || !strings.Contains(err.Error(), c.refusal)):
				t.Errorf("ParseSettings = %v, want an error with %q", err, c.refusal)
			}
		})
	}
}
