// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package encryption

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"

	"kogge.dev/kogge/codec/codectest"
)

// TestRefusalsAreUpstreams compares with upstream, word by word.
func TestRefusalsAreUpstreams(t *testing.T) {
	good := provider("aescbc", key("a", 1, 32))
	files := []string{
		entry("secrets", good, plainly),
		entry("secrets, '*.apps'", good) + entry("'*.*'", good),
		entry("secrets", "{kms: {apiVersion: v2, name: a, endpoint: 'unix:///a'}}"),
		"- {}\n",
		"- {resource: []}\n",
		entry("", good),
		entry("secrets"),
		entry("Secrets, '*', apiserveripinfo, serviceipallocations, servicenodeportallocations, events.events.k8s.io, a.extensions, 'pods.*'", good),
		entry("secrets, secrets", good),
		entry("secrets, '*.'", good),
		entry("secrets, '*.*', secrets", good),
		entry("pods.apps, '*.apps'", good),
		entry("secrets", provider("aescbc"), provider("aesgcm"), provider("secretbox")),
		entry("secrets", provider("aescbc", "{name: a}", "{secret: YQ==}", "{name: b, secret: '-'}", key("c", 1, 31)), provider("secretbox", key("d", 1, 16)), provider("aesgcm", key("e", 1, 20))),
		entry("secrets", "{kms: {apiVersion: v2}}"),
		entry("secrets", "{kms: {apiVersion: v2, name: 'a:b', endpoint: 'tcp://a', timeout: -1s, cachesize: 3}}"),
		entry("secrets", "{kms: {apiVersion: v2, name: a, endpoint: 'unix:///%zz'}}", "{kms: {apiVersion: v2, name: a, endpoint: 'unix:///a', timeout: 0s}}"),
		entry("secrets", "{kms: {apiVersion: v3, name: a, endpoint: 'unix:///a'}}"),
		entry("secrets", "{kms: {apiVersion: v2, name: a, endpoint: 'unix:///a', timeout: soon}}"),
		entry("secrets", "{aes: {}}"),
	}
	for i := range files {
		files[i] = "resources:\n" + files[i]
	}
	codectest.Kind[*apiserver.EncryptionConfiguration]{
		Name: "EncryptionConfiguration", Versions: versions,
		Judge: func(file *apiserver.EncryptionConfiguration) error {
			return validation.ValidateEncryptionConfiguration(file, true).ToAggregate()
		},
		Parse: func(text []byte) (runtime.Object, error) { return parse(text) },
	}.Compare(t, files, 15)
}

// TestRefusalsOfOurs holds what upstream says with other words, or says later.
func TestRefusalsOfOurs(t *testing.T) {
	good := provider("aescbc", key("a", 1, 32))
	for file, want := range map[string]string{
		"":                     "resources: Required value: at least one resources is required",
		entry("secrets", "{}"): "provider does not contain any of the expected providers",
		entry("secrets", "{identity: {}, aescbc: {keys: []}}"):      "more than one provider specified in a single element",
		entry("secrets", "{kms: {name: a, endpoint: 'unix:///a'}}"): "KMSv1 is deprecated and not supported. Use KMSv2 instead",
		entry("'*.apps'", good) + entry("deployments.apps", good):   `resource "deployments.apps" is masked by earlier rule "*.apps"`,
		entry("'*.*'", good) + entry("secrets", good):               `resource "secrets" is masked by earlier rule "*.*"`,
	} {
		text := head + file
		if file == "" {
			text = strings.TrimSuffix(head, "resources:\n")
		}
		_, err := parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "AQEB") {
			t.Errorf("the error shows a key: %v", err)
		}
	}
}
