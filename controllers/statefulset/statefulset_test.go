// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package statefulset_test

import (
	"context"
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

// set makes the StatefulSet web; change may alter it.
func set(t *testing.T, c *client.Client, replicas int32, change func(*appsv1.StatefulSet)) {
	t.Helper()
	labels := map[string]string{"app": "web"}
	s := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, ServiceName: "web", Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web:1"}}},
			},
		},
	}
	if change != nil {
		change(s)
	}
	if _, err := client.Of[*appsv1.StatefulSet](c).Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

func patch(t *testing.T, c *client.Client, body string) {
	t.Helper()
	_, err := client.Of[*appsv1.StatefulSet](c).Patch(t.Context(), "default", "web", types.StrategicMergePatchType, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
}

// awaitStatus waits until the status is as wanted and belongs to the spec as it is.
func awaitStatus(t *testing.T, c *client.Client, ok func(appsv1.StatefulSetStatus) bool) appsv1.StatefulSetStatus {
	t.Helper()
	var last appsv1.StatefulSetStatus
	testcluster.Await(t, c, "default", patience, func(all []*appsv1.StatefulSet) bool {
		if len(all) != 1 {
			return false
		}
		last = all[0].Status
		return last.ObservedGeneration == all[0].Generation && ok(last)
	})
	return last
}

func names(all []*corev1.Pod) string {
	var out []string
	for _, p := range all {
		out = append(out, p.Name+"="+p.Spec.Containers[0].Image)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func awaitPods(t *testing.T, c *client.Client, want string) []*corev1.Pod {
	t.Helper()
	return testcluster.Await(t, c, "default", patience, func(all []*corev1.Pod) bool { return names(all) == want })
}

func complete(n int32) func(appsv1.StatefulSetStatus) bool {
	return func(s appsv1.StatefulSetStatus) bool {
		return s.Replicas == n && s.ReadyReplicas == n && s.AvailableReplicas == n && s.UpdatedReplicas == n && s.CurrentReplicas == n &&
			s.CurrentRevision == s.UpdateRevision
	}
}

// TestPodsComeInOrder holds the second pod back: the third must not come before it is ready.
func TestPodsComeInOrder(t *testing.T) {
	c := testcluster.New(t).Admin()
	testcluster.RunPods(t, c, func(p *corev1.Pod) bool { return p.Name == "web-0" })
	set(t, c, 3, nil)
	pods := awaitPods(t, c, "web-0=web:1 web-1=web:1")
	awaitStatus(t, c, func(s appsv1.StatefulSetStatus) bool { return s.Replicas == 2 && s.ReadyReplicas == 1 })
	for _, p := range pods {
		if p.Name != "web-1" {
			continue
		}
		status := awaitStatus(t, c, func(appsv1.StatefulSetStatus) bool { return true })
		if p.Spec.Hostname != "web-1" || p.Spec.Subdomain != "web" || p.Labels[appsv1.PodIndexLabel] != "1" ||
			p.Labels[appsv1.StatefulSetPodNameLabel] != "web-1" || p.Labels[appsv1.StatefulSetRevisionLabel] != status.UpdateRevision {
			t.Errorf("identity of web-1: %s.%s %v", p.Spec.Hostname, p.Spec.Subdomain, p.Labels)
		}
		next := p.DeepCopy()
		next.ResourceVersion = "" // the scheduler may write at the same time
		next.Status.Phase = corev1.PodRunning
		next.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		if _, err := client.Of[*corev1.Pod](c).UpdateStatus(t.Context(), next); err != nil {
			t.Fatal(err)
		}
	}
	awaitPods(t, c, "web-0=web:1 web-1=web:1 web-2=web:1")
	testcluster.Await(t, c, "default", patience, func(all []*corev1.Event) bool {
		return slices.ContainsFunc(all, func(e *corev1.Event) bool {
			return e.Reason == "SuccessfulCreate" && e.Message == "Create Pod web-2 in StatefulSet web successful"
		})
	})
	// The last one is not ready, so it may go first, and the others one after the other.
	patch(t, c, `{"spec":{"replicas":0}}`)
	awaitPods(t, c, "")
	awaitStatus(t, c, func(s appsv1.StatefulSetStatus) bool { return s.Replicas == 0 })
}

// TestRollingUpdate moves a partition down and rolls back.
func TestRollingUpdate(t *testing.T) {
	c := testcluster.New(t).Admin()
	testcluster.RunPods(t, c, nil)
	set(t, c, 3, nil)
	first := awaitStatus(t, c, complete(3))
	patch(t, c, `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":2}},"template":{"spec":{"containers":[{"name":"web","image":"web:2"}]}}}}`)
	awaitPods(t, c, "web-0=web:1 web-1=web:1 web-2=web:2")
	canary := awaitStatus(t, c, func(s appsv1.StatefulSetStatus) bool {
		return s.ReadyReplicas == 3 && s.UpdatedReplicas == 1 && s.CurrentReplicas == 2
	})
	if canary.CurrentRevision != first.UpdateRevision || canary.UpdateRevision == first.UpdateRevision {
		t.Errorf("revisions while the canary runs: %+v", canary)
	}
	// A lost pod below the partition comes back as it was.
	lost, err := client.Of[*corev1.Pod](c).Get(t.Context(), "default", "web-0")
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Of[*corev1.Pod](c).Delete(t.Context(), "default", "web-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", patience, func(all []*corev1.Pod) bool {
		return names(all) == "web-0=web:1 web-1=web:1 web-2=web:2" &&
			!slices.ContainsFunc(all, func(p *corev1.Pod) bool { return p.UID == lost.UID })
	})
	awaitStatus(t, c, func(s appsv1.StatefulSetStatus) bool { return s.ReadyReplicas == 3 })
	patch(t, c, `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0}}}}`)
	done := awaitStatus(t, c, complete(3))
	if done.CurrentRevision != canary.UpdateRevision {
		t.Errorf("current revision %s after the update, want %s", done.CurrentRevision, canary.UpdateRevision)
	}
	awaitPods(t, c, "web-0=web:2 web-1=web:2 web-2=web:2")
	patch(t, c, `{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"web:1"}]}}}}`)
	back := awaitStatus(t, c, func(s appsv1.StatefulSetStatus) bool {
		return complete(3)(s) && s.UpdateRevision != done.UpdateRevision
	})
	if back.UpdateRevision != first.UpdateRevision {
		t.Errorf("revision %s after the roll-back, want %s again", back.UpdateRevision, first.UpdateRevision)
	}
}

// TestOnDelete replaces only what is deleted by hand.
func TestOnDelete(t *testing.T) {
	c := testcluster.New(t).Admin()
	testcluster.RunPods(t, c, nil)
	set(t, c, 2, func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType })
	awaitStatus(t, c, func(s appsv1.StatefulSetStatus) bool { return s.ReadyReplicas == 2 })
	patch(t, c, `{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"web:2"}]}}}}`)
	awaitStatus(t, c, func(s appsv1.StatefulSetStatus) bool {
		return s.CurrentRevision != s.UpdateRevision && s.UpdatedReplicas == 0
	})
	if err := client.Of[*corev1.Pod](c).Delete(t.Context(), "default", "web-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitPods(t, c, "web-0=web:1 web-1=web:2")
}

// TestFailedPodsAreReplaced evicts a pod.
func TestFailedPodsAreReplaced(t *testing.T) {
	c := testcluster.New(t).Admin()
	testcluster.RunPods(t, c, nil)
	set(t, c, 1, nil)
	awaitStatus(t, c, complete(1))
	pod, err := client.Of[*corev1.Pod](c).Get(t.Context(), "default", "web-0")
	if err != nil {
		t.Fatal(err)
	}
	failed := pod.DeepCopy()
	failed.ResourceVersion, failed.Status.Phase = "", corev1.PodFailed // the scheduler may write at the same time
	if _, err := client.Of[*corev1.Pod](c).UpdateStatus(t.Context(), failed); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", patience, func(all []*corev1.Pod) bool {
		return len(all) == 1 && all[0].UID != pod.UID && all[0].Status.Phase == corev1.PodRunning
	})
}

// TestClaims makes claims that go with scaling and with the set, for pods that start at 5 and come all at once.
func TestClaims(t *testing.T) {
	c := testcluster.New(t).Admin()
	set(t, c, 3, func(s *appsv1.StatefulSet) {
		s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
		s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: 5}
		s.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
			WhenDeleted: appsv1.DeletePersistentVolumeClaimRetentionPolicyType, WhenScaled: appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
		}
		s.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{
			ObjectMeta: metav1.ObjectMeta{Name: "data"},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		}}
	})
	pods := awaitPods(t, c, "web-5=web:1 web-6=web:1 web-7=web:1")
	for _, p := range pods {
		if v := p.Spec.Volumes[0]; v.PersistentVolumeClaim == nil || v.PersistentVolumeClaim.ClaimName != "data-"+p.Name {
			t.Errorf("first volume of %s is %+v", p.Name, v)
		}
	}
	owners := func(all []*corev1.PersistentVolumeClaim) string {
		var out []string
		for _, claim := range all {
			text := claim.Name
			for _, ref := range claim.OwnerReferences {
				text += "<" + ref.Kind
			}
			out = append(out, text)
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	await := func(want string) {
		t.Helper()
		testcluster.Await(t, c, "default", patience, func(all []*corev1.PersistentVolumeClaim) bool { return owners(all) == want })
	}
	await("data-web-5<StatefulSet data-web-6<StatefulSet data-web-7<StatefulSet")
	testcluster.RunPods(t, c, nil)
	awaitStatus(t, c, complete(3))
	patch(t, c, `{"spec":{"replicas":2}}`)
	awaitPods(t, c, "web-5=web:1 web-6=web:1")
	// The claim of the pod that was scaled away has gone with it, unless something protects it.
	testcluster.Await(t, c, "default", patience, func(all []*corev1.PersistentVolumeClaim) bool {
		return !slices.ContainsFunc(all, func(claim *corev1.PersistentVolumeClaim) bool {
			return claim.Name == "data-web-7" && claim.DeletionTimestamp == nil
		})
	})
	if err := client.Of[*appsv1.StatefulSet](c).Delete(context.Background(), "default", "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitPods(t, c, "")
}
