// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/tls"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kogge.dev/kogge/cluster/control"
)

const settingsHead = "apiVersion: kogge.dev/v1\nkind: Config\n"

func TestSettingsOfComponents(t *testing.T) {
	s, err := ParseSettings([]byte(settingsHead + `
join: {kubeconfig: a, networkKubeconfig: b}
without: [scheduler, kubelet]
network: {plugin: none}
kubelet: {port: 10251, tlsCertFile: c, authentication: {x509: {clientCAFile: d}, webhook: {cacheTTL: 1s}}}
scheduler:
  apiVersion: kubescheduler.config.k8s.io/v1
  kind: KubeSchedulerConfiguration
  podMaxBackoffSeconds: 3
controllers: {useServiceAccountCredentials: false}
proxy: {healthAddress: "127.0.0.1:1", nodePortAddresses: [192.0.2.0/24]}
dns: {address: 192.0.2.7, upstreams: ["192.0.2.1:53"]}
`))
	if err != nil {
		t.Fatal(err)
	}
	if s.Kubelet == nil || s.Kubelet.Port != 10251 || s.Kubelet.Authentication.X509.ClientCAFile != "d" || s.Kubelet.Authentication.Webhook.CacheTTL.Seconds() != 1 {
		t.Errorf("kubelet: got %+v", s.Kubelet)
	}
	m := &machine{Settings: s, role: RoleAll}
	if scheduled, err := m.schedulerSettings(); err != nil || scheduled.LastBackoff.Seconds() != 3 {
		t.Errorf("scheduler: got %+v, %v", scheduled, err)
	}
	parts := m.nodeParts()
	if parts.Kubelet || parts.Network || !parts.Proxy || !parts.DNS {
		t.Errorf("parts of a node without kubelet and plugin = %+v", parts)
	}
	m.role = RoleDNS
	if parts := m.nodeParts(); !parts.DNS || parts.Proxy || parts.Kubelet {
		t.Errorf("parts of DNS alone = %+v", parts)
	}
}

func TestRuntimeConfigSettings(t *testing.T) {
	s, err := ParseSettings([]byte(settingsHead + `api: {runtimeConfig: {api/beta: true, resource.k8s.io/v1beta1: "false", storage.k8s.io/v1beta1: ""}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := RuntimeConfig{"api/beta": "true", "resource.k8s.io/v1beta1": "false", "storage.k8s.io/v1beta1": ""}
	if !maps.Equal(s.API.RuntimeConfig, want) {
		t.Errorf("runtimeConfig = %v, want %v", s.API.RuntimeConfig, want)
	}
}

func TestTLSSettings(t *testing.T) {
	for text, want := range map[string]control.TLSLimits{
		"": {MinVersion: tls.VersionTLS12},
		"api: {tls: {minVersion: VersionTLS13, cipherSuites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]}}": {
			MinVersion: tls.VersionTLS13, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
		},
	} {
		s, err := ParseSettings([]byte(settingsHead + text))
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.API.TLS.limits()
		if err != nil || got.MinVersion != want.MinVersion || !slices.Equal(got.CipherSuites, want.CipherSuites) {
			t.Errorf("%q: limits = %+v, %v, want %+v", text, got, err, want)
		}
	}
}

func TestSettingsRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"withot: [dns]":                                                         `unknown field "withot"; did you mean "without"?`,
		"kubelet: {maxPod: 3}":                                                  `unknown field "maxPod"; did you mean "maxPods"?`,
		"without: [schedule]":                                                   `without: "schedule" is not one of scheduler, controllers, cloud, kubelet, proxy, dns; did you mean "scheduler"?`,
		"network: {plugin: flannel}":                                            `network.plugin: "flannel" is not kogge or none`,
		"dns: {address: kube-dns}":                                              `dns.address: "kube-dns" is not an IP address`,
		"dns: {healthAddress: here}":                                            `dns.healthAddress: "here" is not an address`,
		"serving: {address: here}":                                              `serving.address: "here" is not an address like 127.0.0.1:80, nor none`,
		"serving: {certFile: a}":                                                `serving: certFile and keyFile go together`,
		"proxy: {nodePortAddresses: [a]}":                                       `proxy.nodePortAddresses: "a" is not an address range`,
		"controllers: {signingKeyFile: a}":                                      `controllers: signingCertFile and signingKeyFile go together`,
		"scheduler: {parallelism: 3}":                                           `scheduler: scheduler configuration: Object 'Kind' is missing`,
		"api: {runtimeConfig: {resource.k8s.io/v1beta3: true}}":                 `api.runtimeConfig: resource.k8s.io/v1beta3 is not served, not on request either; did you mean`,
		"api: {runtimeConfig: {certificates.k8s.io/v1beta1: true}}":             `api.runtimeConfig: certificates.k8s.io/v1beta1: kogge has no clustertrustbundles`,
		"api: {runtimeConfig: {api/beta: 1}}":                                   `api.runtimeConfig: api/beta: 1 is not true or false`,
		"api: {runtimeConfig: {apps/v1: false}}":                                `can't be turned off`,
		"api: {tls: {minVersion: VersionTLS11}}":                                `api.tls.minVersion: "VersionTLS11" is not VersionTLS12 or VersionTLS13`,
		"api: {tls: {cipherSuites: [TLS_A]}}":                                   `api.tls.cipherSuites: Cipher suite TLS_A not supported or doesn't exist`,
		"api: {tls: {cipherSuites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]}}": `api.tls.cipherSuites: HTTP/2 needs`,
		"controllers: {useServiceAccountCredential: true}":                      `unknown field "useServiceAccountCredential"; did you mean "useServiceAccountCredentials"?`,
	} {
		_, err := ParseSettings([]byte(settingsHead + text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// TestDataFolderIsWhereLinksLead, there or not yet, so that the kubelet finds its mounts by the names that the kernel has for them.
func TestDataFolderIsWhereLinksLead(t *testing.T) {
	disk, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(disk, link); err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{link: disk, filepath.Join(link, "a", "b"): filepath.Join(disk, "a", "b"), disk: disk} {
		s := Settings{DataDir: given}
		if err := s.Complete(); err != nil || s.DataDir != want {
			t.Errorf("data folder %s is %s, %v, want %s", given, s.DataDir, err, want)
		}
	}
	if err := os.Symlink(link+"-round", link+"-round"); err != nil {
		t.Fatal(err)
	}
	s := Settings{DataDir: link + "-round"}
	if err := s.Complete(); err == nil || !strings.Contains(err.Error(), "dataDir: ") {
		t.Errorf("a link to itself: got %v, want an error of dataDir", err)
	}
}
