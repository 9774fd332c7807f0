// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds/catalog"
)

// Metadata alone is read alike in the server's process and over HTTP.
func TestMetadataOf(t *testing.T) {
	for _, overHTTP := range []bool{false, true} {
		d := newTyped(t, start(t), catalog.New(), overHTTP)
		settings := client.Of[*corev1.ConfigMap](client.New(d.backend, d.catalog))
		metadata := client.MetadataOf(settings)
		before, err := metadata.List(t.Context(), "default", metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := metadata.Watch(t.Context(), "default", metav1.ListOptions{ResourceVersion: before.ResourceVersion})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Stop()
		made, err := settings.Create(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", Labels: map[string]string{"a": "b"}}, Data: map[string]string{"k": "v"},
		})
		if err != nil {
			t.Fatal(err)
		}
		check := func(how string, m *metav1.PartialObjectMetadata) {
			t.Helper()
			if m == nil || m.Name != "a" || m.UID != made.UID || m.ResourceVersion != made.ResourceVersion || m.Labels["a"] != "b" {
				t.Errorf("%s over HTTP %v: %v, want the metadata of what was made", how, overHTTP, m)
			}
		}
		one, err := metadata.Get(t.Context(), "default", "a")
		if err != nil {
			t.Fatal(err)
		}
		check("get", one)
		list, err := metadata.List(t.Context(), "default", metav1.ListOptions{LabelSelector: "a=b"})
		if err != nil || len(list.Items) != 1 || list.ResourceVersion == "" {
			t.Fatalf("list over HTTP %v: %v, %v, want one", overHTTP, list, err)
		}
		check("list", list.Items[0])
		event := <-stream.Events()
		told, _ := event.Object.(*metav1.PartialObjectMetadata)
		check("watch", told)
		if event.Type != watch.Added {
			t.Errorf("event over HTTP %v: %s %v, want %s", overHTTP, event.Type, event.Object, watch.Added)
		}
		patched, err := metadata.Patch(t.Context(), "default", "a", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"c"}}}`))
		if err != nil || patched.UID != made.UID || patched.Labels["a"] != "c" || patched.ResourceVersion == made.ResourceVersion {
			t.Errorf("patch over HTTP %v = %v, %v, want the metadata of what was made of it", overHTTP, patched, err)
		}
		if _, err := metadata.Get(t.Context(), "default", "none"); err == nil || client.IgnoreNotFound(err) != nil {
			t.Errorf("get of nothing over HTTP %v: %v, want not found", overHTTP, err)
		}
	}
}

// Annotations that are fields in other versions are no metadata of the object: not in the server's process, over HTTP, or in tables.
func TestMetadataWithoutForms(t *testing.T) {
	s := start(t)
	pod := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	set := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", Annotations: map[string]string{"mine": "1"}},
		Spec:       appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: pod.Labels}, Template: pod},
	}
	for _, overHTTP := range []bool{false, true} {
		d := newTyped(t, s, catalog.New(), overHTTP)
		sets := client.Of[*appsv1.DaemonSet](client.New(d.backend, d.catalog))
		if !overHTTP {
			made, err := sets.Create(t.Context(), set)
			if err != nil || made.Annotations[appsv1.DeprecatedTemplateGeneration] != "1" {
				t.Fatalf("created %v, %v, want it with a template generation", made, err)
			}
		}
		got, err := client.MetadataOf(sets).Get(t.Context(), "default", "a")
		if err != nil || len(got.Annotations) != 1 || got.Annotations["mine"] != "1" {
			t.Errorf("metadata over HTTP %v: %v, %v, want its own annotation alone", overHTTP, got, err)
		}
		list, err := client.MetadataOf(sets).List(t.Context(), "default", metav1.ListOptions{})
		if err != nil || len(list.Items) != 1 || len(list.Items[0].Annotations) != 1 {
			t.Errorf("list over HTTP %v: %v, %v, want its own annotation alone", overHTTP, list, err)
		}
	}
	for _, path := range []string{"/apis/apps/v1/namespaces/default/daemonsets", "/apis/apps/v1/namespaces/default/daemonsets/a"} {
		w := ask(t, s, http.MethodGet, path, nil, "Accept", "application/json;as=Table;g=meta.k8s.io;v=v1")
		if body := w.Body.String(); w.Code != http.StatusOK || !strings.Contains(body, `"mine"`) || strings.Contains(body, `"`+appsv1.DeprecatedTemplateGeneration+`":"1"`) {
			t.Errorf("table of %s = %d %s, want its own annotation alone", path, w.Code, body)
		}
	}
}
