// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resourcequota_test

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/testcluster"
)

// awaitEstablished waits for the only definition.
func awaitEstablished(t *testing.T, c *client.Client) {
	t.Helper()
	testcluster.Await(t, c, "", 10*time.Second, func(all []*apiextensionsv1.CustomResourceDefinition) bool {
		return len(all) == 1 && slices.ContainsFunc(all[0].Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
			return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
		})
	})
}

// TestWhatCanNotBeListedDoesNotHoldUpTheRest makes more quotas than there are workers that count custom resources which can't be listed:
// one is stored in a version that only a webhook converts, and the webhook is not there.
func TestWhatCanNotBeListedDoesNotHoldUpTheRest(t *testing.T) {
	c := testcluster.New(t).Admin()
	schemaOf := &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}}
	crd := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "things.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.com", Scope: apiextensionsv1.NamespaceScoped,
			Names:    apiextensionsv1.CustomResourceDefinitionNames{Plural: "things", Singular: "thing", Kind: "Thing", ListKind: "ThingList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true, Schema: schemaOf}},
		},
	}
	crds := client.Of[*apiextensionsv1.CustomResourceDefinition](c)
	if _, err := crds.Create(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	awaitEstablished(t, c)
	things := client.At[kinds.Object](c, schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "things"},
		func() kinds.Object { return &unstructured.Unstructured{} })
	thing := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Thing", "metadata": map[string]any{"namespace": "default", "name": "old"},
	}}
	if _, err := things.Create(t.Context(), thing); err != nil {
		t.Fatal(err)
	}
	d, err := crds.Get(t.Context(), "", crd.Name)
	if err != nil {
		t.Fatal(err)
	}
	d = d.DeepCopy()
	d.Spec.Versions[0].Storage = false
	d.Spec.Versions = append(d.Spec.Versions, apiextensionsv1.CustomResourceDefinitionVersion{Name: "v2", Served: true, Storage: true, Schema: schemaOf})
	d.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{
		Strategy: apiextensionsv1.WebhookConverter,
		Webhook: &apiextensionsv1.WebhookConversion{
			ClientConfig:             &apiextensionsv1.WebhookClientConfig{URL: new("https://127.0.0.1:1/")},
			ConversionReviewVersions: []string{"v1"},
		},
	}
	if _, err := crds.Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := things.List(t.Context(), "", metav1.ListOptions{}); err != nil {
			break // the definition is in force
		}
		if time.Now().After(deadline) {
			t.Fatal("things can be listed without the webhook that converts them")
		}
	}
	hard := corev1.ResourceList{"count/things.example.com": resource.MustParse("5"), corev1.ResourceSecrets: resource.MustParse("5")}
	quotas := client.Of[*corev1.ResourceQuota](c)
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}
		if _, err := quotas.Create(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	testcluster.Await(t, c, "default", 10*time.Second, func(all []*corev1.ResourceQuota) bool {
		for _, q := range all {
			if _, counted := q.Status.Used[corev1.ResourceSecrets]; !counted {
				return false
			}
		}
		return len(all) == 7
	})
}
