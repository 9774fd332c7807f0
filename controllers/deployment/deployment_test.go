// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package deployment_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

const patience = 20 * time.Second

// deploy makes the Deployment web; change may alter it.
func deploy(t *testing.T, c *client.Client, replicas int32, change func(*appsv1.DeploymentSpec)) {
	t.Helper()
	labels := map[string]string{"app": "web"}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web:1"}}},
			},
		},
	}
	if change != nil {
		change(&d.Spec)
	}
	if _, err := client.Of[*appsv1.Deployment](c).Create(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func patch(t *testing.T, c *client.Client, body string) {
	t.Helper()
	_, err := client.Of[*appsv1.Deployment](c).Patch(t.Context(), "default", "web", types.StrategicMergePatchType, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
}

func image(tag string) string {
	return fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"web","image":%q}]}}}}`, tag)
}

func reason(d *appsv1.Deployment, kind appsv1.DeploymentConditionType) string {
	for _, c := range d.Status.Conditions {
		if c.Type == kind {
			return string(c.Status) + " " + c.Reason
		}
	}
	return ""
}

// awaitRevision waits until a revision is rolled out to n replicas.
func awaitRevision(t *testing.T, c *client.Client, revision string, n int32) {
	t.Helper()
	testcluster.Await(t, c, "default", patience, func(all []*appsv1.Deployment) bool {
		if len(all) != 1 {
			return false
		}
		d, s := all[0], all[0].Status
		return s.ObservedGeneration == d.Generation && s.Replicas == n && s.UpdatedReplicas == n && s.AvailableReplicas == n &&
			s.UnavailableReplicas == 0 && d.Annotations["deployment.kubernetes.io/revision"] == revision &&
			reason(d, appsv1.DeploymentProgressing) == "True NewReplicaSetAvailable" &&
			reason(d, appsv1.DeploymentAvailable) == "True MinimumReplicasAvailable"
	})
}

// sets renders the ReplicaSets by image and size.
func sets(all []*appsv1.ReplicaSet) string {
	var out []string
	for _, rs := range all {
		out = append(out, fmt.Sprintf("%s=%d", rs.Spec.Template.Spec.Containers[0].Image, *rs.Spec.Replicas))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func awaitSets(t *testing.T, c *client.Client, want string) []*appsv1.ReplicaSet {
	t.Helper()
	return testcluster.Await(t, c, "default", patience, func(all []*appsv1.ReplicaSet) bool { return sets(all) == want })
}

// TestRollingUpdateAndBack rolls forward, scales, rolls back, and forgets what is beyond the history.
func TestRollingUpdateAndBack(t *testing.T) {
	c := testcluster.New(t).Admin()
	testcluster.RunPods(t, c, nil)
	one := int32(1)
	deploy(t, c, 4, func(s *appsv1.DeploymentSpec) { s.RevisionHistoryLimit = &one })
	awaitRevision(t, c, "1", 4)
	patch(t, c, image("web:2"))
	awaitRevision(t, c, "2", 4)
	awaitSets(t, c, "web:1=0 web:2=4")
	patch(t, c, `{"spec":{"replicas":2}}`)
	awaitRevision(t, c, "2", 2)
	patch(t, c, image("web:1"))
	awaitRevision(t, c, "3", 2)
	back := awaitSets(t, c, "web:1=2 web:2=0")
	for _, rs := range back {
		if *rs.Spec.Replicas == 2 && rs.Annotations["deployment.kubernetes.io/revision-history"] != "1" {
			t.Errorf("annotations of the set that came back: %v", rs.Annotations)
		}
	}
	patch(t, c, image("web:3"))
	awaitRevision(t, c, "4", 2)
	awaitSets(t, c, "web:1=0 web:3=2")
	testcluster.Await(t, c, "default", patience, func(all []*corev1.Event) bool {
		return slices.ContainsFunc(all, func(e *corev1.Event) bool {
			return e.Reason == "ScalingReplicaSet" && e.InvolvedObject.Kind == "Deployment" && strings.HasPrefix(e.Message, "Scaled up replica set web-")
		})
	})
}

// TestRecreate stops all old pods before new ones start.
func TestRecreate(t *testing.T) {
	c := testcluster.New(t).Admin()
	testcluster.RunPods(t, c, nil)
	deploy(t, c, 2, func(s *appsv1.DeploymentSpec) { s.Strategy.Type = appsv1.RecreateDeploymentStrategyType })
	awaitRevision(t, c, "1", 2)
	patch(t, c, image("web:2"))
	awaitRevision(t, c, "2", 2)
	awaitSets(t, c, "web:1=0 web:2=2")
	// The controller's own annotation is no change of what is wanted.
	if d, err := client.Of[*appsv1.Deployment](c).Get(t.Context(), "default", "web"); err != nil || d.Generation != 2 {
		t.Errorf("generation after one change = %d, %v; want 2", d.Generation, err)
	}
}

// TestBrokenUpdateStops rolls out an image that never runs: the old pods stay as far as they must, sizes follow in
// proportion, and after the deadline the Deployment says that it is stuck.
func TestBrokenUpdateStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testcluster.New(t).Admin()
		testcluster.RunPods(t, c, func(p *corev1.Pod) bool { return p.Spec.Containers[0].Image == "web:1" })
		deadline := int32(60)
		deploy(t, c, 4, func(s *appsv1.DeploymentSpec) { s.ProgressDeadlineSeconds = &deadline })
		awaitRevision(t, c, "1", 4)
		patch(t, c, image("web:broken"))
		awaitSets(t, c, "web:1=3 web:broken=2")
		patch(t, c, `{"spec":{"replicas":8}}`)
		awaitSets(t, c, "web:1=6 web:broken=4")
		started := time.Now()
		testcluster.Await(t, c, "default", 3*time.Minute, func(all []*appsv1.Deployment) bool {
			return len(all) == 1 && reason(all[0], appsv1.DeploymentProgressing) == "False ProgressDeadlineExceeded"
		})
		if took := time.Since(started); took < 55*time.Second {
			t.Errorf("stuck after %v", took)
		}
		patch(t, c, image("web:1"))
		awaitRevision(t, c, "3", 8)
	})
}

// TestPause changes a paused Deployment: nothing rolls out until it goes on.
func TestPause(t *testing.T) {
	c := testcluster.New(t).Admin()
	testcluster.RunPods(t, c, nil)
	deploy(t, c, 1, nil)
	awaitRevision(t, c, "1", 1)
	patch(t, c, `{"spec":{"paused":true}}`)
	testcluster.Await(t, c, "default", patience, func(all []*appsv1.Deployment) bool {
		return len(all) == 1 && reason(all[0], appsv1.DeploymentProgressing) == "Unknown DeploymentPaused"
	})
	patch(t, c, image("web:2"))
	patch(t, c, `{"spec":{"replicas":3}}`)
	awaitSets(t, c, "web:1=3")
	patch(t, c, `{"spec":{"paused":false}}`)
	awaitRevision(t, c, "2", 3)
}
