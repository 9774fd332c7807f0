// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package configured_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kogge.dev/kogge/apiserver/admission/configured"
)

const (
	head   = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n"
	limits = "apiVersion: eventratelimit.admission.k8s.io/v1alpha1\nkind: Configuration\nlimits: [{type: Server, qps: 5, burst: 10}]\n"
)

func TestRead(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("limits.yaml", limits)
	for _, test := range []struct{ name, text, want string }{
		{"nothing", strings.TrimSuffix(head, "plugins:\n"), ""},
		{"both", head + `- name: EventRateLimit
  path: limits.yaml
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: baseline, enforce-version: v1.30}
    exemptions: {namespaces: [kube-system]}
`, ""},
		{"another plugin", head + "- {name: ImagePolicyWebhook, path: limits.yaml}\n", `plugins[0].name: Unsupported value: "ImagePolicyWebhook"`},
		{"twice", head + "- {name: EventRateLimit, path: limits.yaml}\n- {name: EventRateLimit, path: limits.yaml}\n", `plugins[1].name: Duplicate value: "EventRateLimit"`},
		{"no content", head + "- {name: EventRateLimit}\n", "plugins[0]: either path or configuration must be there"},
		{"two contents", head + "- {name: EventRateLimit, path: limits.yaml, configuration: {}}\n", "plugins[0]: only one of path and configuration may be there"},
		{"no file", head + "- {name: EventRateLimit, path: none.yaml}\n", "none.yaml: no such file"},
		{"bad level", head + `- name: PodSecurity
  configuration: {apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration, defaults: {enforce: strict}}
`, `defaults.enforce: Invalid value: "strict"`},
		{"unknown field of PodSecurity", head + `- name: PodSecurity
  configuration: {apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration, default: {enforce: baseline}}
`, `unknown field "default"`},
		{"unknown field", head + "- {name: EventRateLimit, file: limits.yaml}\n", `unknown field "plugins[0].file"`},
	} {
		got, err := configured.Read(write("admission.yaml", test.text))
		if text := fmt.Sprint(err); test.want == "" && err != nil || test.want != "" && !strings.Contains(text, test.want) {
			t.Errorf("%s: Read() = %s, want %q", test.name, text, test.want)
		}
		if test.name == "both" && (got.EventRateLimit == nil || got.EventRateLimit.Limits[0].QPS != 5 || got.PodSecurity == nil ||
			got.PodSecurity.Defaults.Enforce != "baseline" || got.PodSecurity.Defaults.Warn != "privileged") {
			t.Errorf("Read() = %+v", got)
		}
	}
}
