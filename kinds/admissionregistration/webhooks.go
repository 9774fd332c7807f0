// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package admissionregistration

import (
	"reflect"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

func webhookColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		table.Name(), table.Number("Webhooks", "Webhooks indicates the number of webhooks registered in this configuration"), table.Age(),
	}
}

func mutatingWebhooks(e *expressions) *kinds.Kind {
	return kinds.Define(extension("mutatingwebhookconfigurations", "mutatingwebhookconfiguration"), version.WithKind("MutatingWebhookConfiguration"),
		func() *admissionregistrationv1.MutatingWebhookConfiguration {
			return &admissionregistrationv1.MutatingWebhookConfiguration{}
		},
		func() runtime.Object { return &admissionregistrationv1.MutatingWebhookConfigurationList{} },
		kinds.Strategy[*admissionregistrationv1.MutatingWebhookConfiguration]{
			Default:       defaultMutatingWebhooks,
			PrepareCreate: firstGeneration[*admissionregistrationv1.MutatingWebhookConfiguration],
			PrepareUpdate: func(_ kinds.Request, new, old *admissionregistrationv1.MutatingWebhookConfiguration) {
				new.Generation = old.Generation
				if !reflect.DeepEqual(new.Webhooks, old.Webhooks) {
					new.Generation++
				}
			},
			Validate:       e.validateMutatingWebhooks,
			ValidateUpdate: e.validateMutatingWebhooksUpdate,
			Warn:           warnSuffix[*admissionregistrationv1.MutatingWebhookConfiguration],
			Columns:        webhookColumns(),
			Row: func(c *admissionregistrationv1.MutatingWebhookConfiguration, now time.Time) []any {
				return []any{c.Name, int64(len(c.Webhooks)), table.Since(c.CreationTimestamp, now)}
			},
		})
}

func defaultMutatingWebhooks(c *admissionregistrationv1.MutatingWebhookConfiguration) {
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		fill(&w.FailurePolicy, admissionregistrationv1.Fail)
		fill(&w.MatchPolicy, admissionregistrationv1.Equivalent)
		fill(&w.NamespaceSelector, metav1.LabelSelector{})
		fill(&w.ObjectSelector, metav1.LabelSelector{})
		fill(&w.TimeoutSeconds, defaultTimeout)
		fill(&w.ReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
		defaultClient(&w.ClientConfig)
		defaultRules(w.Rules)
	}
}

func validatingWebhooks(e *expressions) *kinds.Kind {
	return kinds.Define(extension("validatingwebhookconfigurations", "validatingwebhookconfiguration"), version.WithKind("ValidatingWebhookConfiguration"),
		func() *admissionregistrationv1.ValidatingWebhookConfiguration {
			return &admissionregistrationv1.ValidatingWebhookConfiguration{}
		},
		func() runtime.Object { return &admissionregistrationv1.ValidatingWebhookConfigurationList{} },
		kinds.Strategy[*admissionregistrationv1.ValidatingWebhookConfiguration]{
			Default:       defaultValidatingWebhooks,
			PrepareCreate: firstGeneration[*admissionregistrationv1.ValidatingWebhookConfiguration],
			PrepareUpdate: func(_ kinds.Request, new, old *admissionregistrationv1.ValidatingWebhookConfiguration) {
				new.Generation = old.Generation
				if !reflect.DeepEqual(new.Webhooks, old.Webhooks) {
					new.Generation++
				}
			},
			Validate:       e.validateValidatingWebhooks,
			ValidateUpdate: e.validateValidatingWebhooksUpdate,
			Warn:           warnSuffix[*admissionregistrationv1.ValidatingWebhookConfiguration],
			Columns:        webhookColumns(),
			Row: func(c *admissionregistrationv1.ValidatingWebhookConfiguration, now time.Time) []any {
				return []any{c.Name, int64(len(c.Webhooks)), table.Since(c.CreationTimestamp, now)}
			},
		})
}

func defaultValidatingWebhooks(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		fill(&w.FailurePolicy, admissionregistrationv1.Fail)
		fill(&w.MatchPolicy, admissionregistrationv1.Equivalent)
		fill(&w.NamespaceSelector, metav1.LabelSelector{})
		fill(&w.ObjectSelector, metav1.LabelSelector{})
		fill(&w.TimeoutSeconds, defaultTimeout)
		defaultClient(&w.ClientConfig)
		defaultRules(w.Rules)
	}
}
