// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package configured

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"

	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/codec/codectest"
	"kogge.dev/kogge/expr"
)

const fileHead = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n"

var ours = []string{"Node", "RBAC"}

func files() codectest.Kind[*apiserver.AuthorizationConfiguration] {
	compiler, theirs := expr.NewCompiler(), authorizationcel.NewDefaultCompiler()
	return codectest.Kind[*apiserver.AuthorizationConfiguration]{
		Name: "AuthorizationConfiguration", Versions: codec.APIServerVersions,
		Judge: func(file *apiserver.AuthorizationConfiguration) error {
			return validation.ValidateAuthorizationConfiguration(theirs, nil, file, sets.New("Node", "RBAC", "Webhook"), sets.New("Webhook")).ToAggregate()
		},
		Parse: func(text []byte) (runtime.Object, error) {
			c, err := parse(text, compiler, ours)
			if err != nil {
				return nil, err
			}
			return &c.file, nil
		},
	}
}

func TestVersionsAreAlike(t *testing.T) { files().SameFields(t) }

// good is a webhook without faults but for what more adds or replaces.
func good(kubeconfig, more string) string {
	fields := map[string]string{
		"timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": "NoOpinion",
		"connectionInfo": "{type: KubeConfigFile, kubeConfigFile: " + kubeconfig + "}",
	}
	for line := range strings.SplitSeq(more, "\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			fields[name] = value
			if value == "-" {
				delete(fields, name)
			}
		}
	}
	var out strings.Builder
	out.WriteString("- type: Webhook\n  name: hook\n  webhook:\n")
	for name, value := range fields {
		out.WriteString("    " + name + ": " + value + "\n")
	}
	return "authorizers:\n" + out.String()
}

// TestRefusalsAreUpstreams compares with upstream, word by word.
func TestRefusalsAreUpstreams(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	files().Compare(t, []string{
		"authorizers: []\n",
		"authorizer: []\n",
		"authorizers: [{}, {type: ABAC}, {type: RBAC}, {type: RBAC, name: rbac}]\n",
		"authorizers: [{type: Node, name: node}, {type: RBAC, name: node}]\n",
		"authorizers: [{type: Node, name: node, webhook: {}}, {type: Webhook, name: A_b}]\n",
		good(kubeconfig, ""),
		good(kubeconfig, "timeout: 31s"),
		good(kubeconfig, "timeout: -\nfailurePolicy: -\nsubjectAccessReviewVersion: -\nconnectionInfo: {}"),
		good(kubeconfig, "authorizedTTL: -1s\nunauthorizedTTL: -1s\nfailurePolicy: Allow\nsubjectAccessReviewVersion: v2"),
		good(kubeconfig, "matchConditions: [{expression: 'true'}]"),
		good(kubeconfig, "matchConditionSubjectAccessReviewVersion: v1beta1"),
		good(kubeconfig, "matchConditionSubjectAccessReviewVersion: v1\nmatchConditions: [{expression: 'true'}, {expression: 'true'}, {}, {expression: request.nope}, {expression: request.user}, {expression: '1 +'}]"),
		good(kubeconfig, "matchConditionSubjectAccessReviewVersion: v1\nmatchConditions: [{expression: 'has(request.resourceAttributes) && request.resourceAttributes.namespace == \"a\"'}]"),
		good("relative", ""),
		good(filepath.Dir(kubeconfig), ""),
		good("/nowhere", ""),
		good("''", ""),
		good(kubeconfig, "timeout: later"),
	}, 15)
}

func TestNamesOfBuiltIn(t *testing.T) {
	for file, want := range map[string]string{
		"authorizers: [{type: Node, name: mine}]\n":                                     "expected name node for authorizer Node instead of mine",
		good("/x", "connectionInfo: {type: InClusterConfig}"):                           "only KubeConfigFile is supported",
		good("/x", "connectionInfo: {type: Socket}"):                                    `Unsupported value`,
		"authorizers: [{type: AlwaysAllow, name: alwaysallow}]\n":                       `authorizers[0].type: Unsupported value: "AlwaysAllow": supported values: "Node", "RBAC", "Webhook"`,
		"authorizers: [{type: Node, name: node}, {type: AlwaysDeny, name: alwaysdeny}]": `supported values: "Node", "RBAC", "Webhook"`,
	} {
		if _, err := parse([]byte(fileHead+file), expr.NewCompiler(), ours); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(fileHead + "authorizers: [{type: Node, name: node}, {type: RBAC, name: rbac}]\n")
	f.Add(fileHead + good("/proc/self/exe", "matchConditionSubjectAccessReviewVersion: v1\nmatchConditions: [{expression: 'request.user == \"a\"'}]"))
	compiler := expr.NewCompiler()
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parse([]byte(text), compiler, ours)
		if err == nil && (len(c.file.Authorizers) == 0 || len(c.conditions) != len(c.file.Authorizers)) {
			t.Errorf("accepted: %+v", c)
		}
	})
}
