// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package replicaset_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

const patience = 20 * time.Second

func labels() map[string]string { return map[string]string{"app": "web"} }

func spec() corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web:1"}}}
}

func makeSet(t *testing.T, c *client.Client, replicas int32) *appsv1.ReplicaSet {
	t.Helper()
	rs, err := client.Of[*appsv1.ReplicaSet](c).Create(t.Context(), &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels()},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels()}, Spec: spec()},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func awaitStatus(t *testing.T, c *client.Client, replicas, ready int32) {
	t.Helper()
	testcluster.Await(t, c, "default", patience, func(all []*appsv1.ReplicaSet) bool {
		s := all[0].Status
		return s.ObservedGeneration == all[0].Generation && s.Replicas == replicas && s.FullyLabeledReplicas == replicas &&
			s.ReadyReplicas == ready && s.AvailableReplicas == ready
	})
}

func scale(t *testing.T, c *client.Client, replicas string) {
	t.Helper()
	body := []byte(`{"spec":{"replicas":` + replicas + `}}`)
	if _, err := client.Of[*appsv1.ReplicaSet](c).Patch(t.Context(), "default", "web", types.MergePatchType, body); err != nil {
		t.Fatal(err)
	}
}

// TestAdoptAndRelease adopts a pod that fits, which is then one too many, and replaces one whose labels are taken away.
func TestAdoptAndRelease(t *testing.T) {
	c := testcluster.New(t).Admin()
	testcluster.RunPods(t, c, nil)
	pods := client.Of[*corev1.Pod](c)
	makeSet(t, c, 0)
	awaitStatus(t, c, 0, 0)
	orphan := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "orphan", Labels: labels()}, Spec: spec()}
	if _, err := pods.Create(t.Context(), orphan); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", patience, func(all []*corev1.Pod) bool { return len(all) == 0 })
	scale(t, c, "2")
	awaitStatus(t, c, 2, 2)
	owned := testcluster.Await(t, c, "default", patience, func(all []*corev1.Pod) bool { return len(all) == 2 })[0]
	if _, err := pods.Patch(t.Context(), "default", owned.Name, types.MergePatchType, []byte(`{"metadata":{"labels":{"app":"other"}}}`)); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", patience, func(all []*corev1.Pod) bool {
		released := slices.ContainsFunc(all, func(p *corev1.Pod) bool { return p.Name == owned.Name && len(p.OwnerReferences) == 0 })
		return len(all) == 3 && released
	})
}

// TestScaleDownPrefersUnready deletes the pod that is not ready first.
func TestScaleDownPrefersUnready(t *testing.T) {
	c := testcluster.New(t).Admin()
	lucky := map[string]bool{} // read and written by the player of the nodes alone
	testcluster.RunPods(t, c, func(pod *corev1.Pod) bool {
		if len(lucky) < 2 {
			lucky[pod.Name] = true
		}
		return lucky[pod.Name]
	})
	makeSet(t, c, 3)
	awaitStatus(t, c, 3, 2)
	scale(t, c, "2")
	awaitStatus(t, c, 2, 2)
}

// TestFailureIsReported hits a quota: the condition says so, and goes when there is room.
func TestFailureIsReported(t *testing.T) {
	c := testcluster.New(t).Admin()
	testcluster.RunPods(t, c, nil)
	_, err := client.Of[*corev1.ResourceQuota](c).Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "few"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("2")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", patience, func(all []*corev1.ResourceQuota) bool { return len(all) == 1 && len(all[0].Status.Hard) == 1 })
	three := int32(3)
	rcs := client.Of[*corev1.ReplicationController](c)
	_, err = rcs.Create(t.Context(), &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ReplicationControllerSpec{
			Replicas: &three, Selector: labels(), Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels()}, Spec: spec()},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", patience, func(all []*corev1.ReplicationController) bool {
		s := all[0].Status
		return s.Replicas == 2 && len(s.Conditions) == 1 && s.Conditions[0].Type == corev1.ReplicationControllerReplicaFailure &&
			s.Conditions[0].Reason == "FailedCreate" && strings.Contains(s.Conditions[0].Message, "exceeded quota: few")
	})
	if _, err := rcs.Patch(t.Context(), "default", "web", types.MergePatchType, []byte(`{"spec":{"replicas":2}}`)); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", patience, func(all []*corev1.ReplicationController) bool { return len(all[0].Status.Conditions) == 0 })
}
