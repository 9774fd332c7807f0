// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package admissionregistration describes the kinds of the admissionregistration.k8s.io API group: who else may change or
// refuse what clients write.
package admissionregistration

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/kinds"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind {
	e := newExpressions()
	return []*kinds.Kind{
		mutatingPolicy(e), mutatingPolicyBinding(), mutatingWebhooks(e),
		validatingPolicy(e), validatingPolicyBinding(), validatingWebhooks(e),
	}
}

// version is the one that is served by default and stored.
var version = admissionregistrationv1.SchemeGroupVersion

// extension begins the descriptor of a kind that extends the API.
func extension(resource, singular string) kinds.Kind {
	return kinds.Kind{
		Resource:              resource,
		Singular:              singular,
		FreeFinalizers:        true,
		Categories:            []string{"api-extensions"},
		ConditionalUpdateOnly: true,
		Storage:               kinds.Storage{Prefix: resource},
	}
}

func firstGeneration[T kinds.Object](_ kinds.Request, obj T) { obj.SetGeneration(1) }

// fill points *p at value when it points nowhere.
func fill[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

// Defaults of webhooks.
const (
	defaultTimeout = 10 // seconds
	defaultPort    = 443
)

func defaultRules(rules []admissionregistrationv1.RuleWithOperations) {
	for i := range rules {
		fill(&rules[i].Scope, admissionregistrationv1.AllScopes)
	}
}

func defaultClient(c *admissionregistrationv1.WebhookClientConfig) {
	if c.Service != nil {
		fill(&c.Service.Port, defaultPort)
	}
}

func defaultMatch(m *admissionregistrationv1.MatchResources) {
	if m == nil {
		return
	}
	fill(&m.MatchPolicy, admissionregistrationv1.Equivalent)
	fill(&m.NamespaceSelector, metav1.LabelSelector{})
	fill(&m.ObjectSelector, metav1.LabelSelector{})
	defaultNamedRules(m.ResourceRules)
	defaultNamedRules(m.ExcludeResourceRules)
}

func defaultNamedRules(rules []admissionregistrationv1.NamedRuleWithOperations) {
	for i := range rules {
		fill(&rules[i].Scope, admissionregistrationv1.AllScopes)
	}
}
