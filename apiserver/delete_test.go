// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/memory"
)

// eager removes a key as soon as it is changed, as a kubelet does with a pod that is marked for removal.
type eager struct {
	store.Store
	key string
}

func (e eager) Update(ctx context.Context, key string, value []byte, expected int64, opts store.WriteOptions) (int64, error) {
	revision, err := e.Store.Update(ctx, key, value, expected, opts)
	if err == nil && key == e.key {
		_, err = e.Delete(ctx, key, revision)
	}
	return revision, err
}

// TestDeletionThatOthersFinish deletes a pod that is gone between the mark and the removal.
func TestDeletionThatOthersFinish(t *testing.T) {
	server := start(t, func(c *apiserver.Config) { c.Store = eager{memory.New(), "/registry/pods/default/a"} })
	c := client.New(server.Client(request.User{Name: "tester"}), catalog.New())
	if _, err := client.Of[*corev1.Namespace](c).Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}); err != nil {
		t.Fatal(err)
	}
	pods := client.Of[*corev1.Pod](c)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"},
		Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	if _, err := pods.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	now := int64(0)
	if err := pods.Delete(t.Context(), "default", "a", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Errorf("Delete = %v", err)
	}
}
