// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package disruption_test

import (
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

const patience = 20 * time.Second

func template(name string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "c:1"}}},
	}
}

func budget(t *testing.T, c *client.Client, spec policyv1.PodDisruptionBudgetSpec) {
	t.Helper()
	spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	_, err := client.Of[*policyv1.PodDisruptionBudget](c).Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: spec,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, c *client.Client, healthy, desired, expected, allowed int32, reason string) {
	t.Helper()
	var last policyv1.PodDisruptionBudgetStatus
	defer func() {
		if t.Failed() {
			t.Logf("last status %+v", last)
		}
	}()
	testcluster.Await(t, c, "default", patience, func(all []*policyv1.PodDisruptionBudget) bool {
		if len(all) != 1 {
			return false
		}
		last = all[0].Status
		return last.CurrentHealthy == healthy && last.DesiredHealthy == desired && last.ExpectedPods == expected &&
			last.DisruptionsAllowed == allowed && len(last.Conditions) == 1 && last.Conditions[0].Reason == reason
	})
}

// TestBudgetOfADeployment covers the pods of a Deployment by a percentage, and evicts until no more is allowed.
func TestBudgetOfADeployment(t *testing.T) {
	c := testcluster.New(t).Admin()
	testcluster.RunPods(t, c, func(pod *corev1.Pod) bool { return pod.Annotations["stay"] == "" })
	replicas := int32(4)
	_, err := client.Of[*appsv1.Deployment](c).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: template("web"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	half := intstr.FromString("50%")
	budget(t, c, policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &half})
	await(t, c, 4, 2, 4, 2, policyv1.SufficientPodsReason)
	pods := testcluster.Await(t, c, "default", patience, func(all []*corev1.Pod) bool { return len(all) == 4 })
	api := client.Of[*corev1.Pod](c)
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: pods[0].Name}}
	if _, err := api.Post(t.Context(), "default", pods[0].Name, "eviction", eviction); err != nil {
		t.Fatal(err)
	}
	await(t, c, 4, 2, 4, 2, policyv1.SufficientPodsReason) // the replacement counts
	scale := []byte(`{"spec":{"replicas":1}}`)
	if _, err := client.Of[*appsv1.Deployment](c).Patch(t.Context(), "default", "web", "application/merge-patch+json", scale); err != nil {
		t.Fatal(err)
	}
	await(t, c, 1, 0, 1, 1, policyv1.SufficientPodsReason)
}

// TestBudgetOfSinglePods covers pods without a controller by a number.
func TestBudgetOfSinglePods(t *testing.T) {
	c := testcluster.New(t).Admin()
	testcluster.RunPods(t, c, nil)
	two := intstr.FromInt32(2)
	budget(t, c, policyv1.PodDisruptionBudgetSpec{MinAvailable: &two})
	await(t, c, 0, 2, 0, 0, policyv1.InsufficientPodsReason)
	for _, name := range []string{"a", "b", "c"} {
		made := template("web")
		_, err := client.Of[*corev1.Pod](c).Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: made.Labels}, Spec: made.Spec,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	await(t, c, 3, 2, 3, 1, policyv1.SufficientPodsReason)
}

// TestBudgetThatCannotBeComputed covers pods of a Job, which has no scale, by a percentage.
func TestBudgetThatCannotBeComputed(t *testing.T) {
	c := testcluster.New(t).Admin()
	testcluster.RunPods(t, c, nil)
	made := template("web")
	made.Spec.RestartPolicy = corev1.RestartPolicyNever
	_, err := client.Of[*batchv1.Job](c).Create(t.Context(), &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: batchv1.JobSpec{Template: made},
	})
	if err != nil {
		t.Fatal(err)
	}
	half := intstr.FromString("50%")
	budget(t, c, policyv1.PodDisruptionBudgetSpec{MinAvailable: &half})
	testcluster.Await(t, c, "default", patience, func(all []*policyv1.PodDisruptionBudget) bool {
		return len(all) == 1 && len(all[0].Status.Conditions) == 1 && all[0].Status.Conditions[0].Reason == policyv1.SyncFailedReason &&
			all[0].Status.Conditions[0].Message == "jobs.batch does not implement the scale subresource"
	})
}

// TestStaleConditionIsTakenBack tells a pod to go, and does not delete it.
func TestStaleConditionIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods := client.Of[*corev1.Pod](testcluster.New(t).Admin())
		made := template("web")
		pod, err := pods.Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", Labels: made.Labels}, Spec: made.Spec,
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		next := pod.DeepCopy()
		next.ResourceVersion = ""
		next.Status.Conditions = append(next.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "Test", LastTransitionTime: metav1.Now(),
		})
		if _, err := pods.UpdateStatus(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			wait time.Duration
			want corev1.ConditionStatus
		}{{110 * time.Second, corev1.ConditionTrue}, {20 * time.Second, corev1.ConditionFalse}} {
			time.Sleep(step.wait)
			synctest.Wait()
			now, err := pods.Get(t.Context(), "default", "a")
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range now.Status.Conditions {
				if c.Type == corev1.DisruptionTarget && c.Status != step.want {
					t.Errorf("condition is %s, want %s", c.Status, step.want)
				}
			}
		}
	})
}
