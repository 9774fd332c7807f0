// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds/catalog"
)

// slowServer takes a patch of a pod when it is told what the pod's version is then.
type slowServer struct {
	client.Backend
	patches  chan string
	versions chan string
}

func (s *slowServer) Do(_ context.Context, req *client.Request) (*client.Result, error) {
	s.patches <- string(req.Patch)
	return &client.Result{Object: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{ResourceVersion: <-s.versions}}}, nil
}

// TestReportsWhileOneIsOnItsWay says how the pod is, though what changed came while the report before was on its way.
func TestReportsWhileOneIsOnItsWay(t *testing.T) {
	status := func(ready corev1.ConditionStatus) *corev1.PodStatus {
		return &corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}}
	}
	seen := func(version string, ready corev1.ConditionStatus) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u", ResourceVersion: version}, Status: *status(ready)}
	}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		now  corev1.ConditionStatus
		want string
	}{
		"somebody else says otherwise": {seen("3", corev1.ConditionFalse), corev1.ConditionTrue, `"status":"True"`},
		"it is again as it was":        {seen("1", corev1.ConditionFalse), corev1.ConditionFalse, `"status":"False"`},
	} {
		t.Run(name, func(t *testing.T) {
			server := &slowServer{patches: make(chan string), versions: make(chan string)}
			w := &worker{k: &Kubelet{client: client.New(server, catalog.New())}, log: slog.New(slog.DiscardHandler)}
			w.reporter = reporter{w: w, sent: status(corev1.ConditionFalse), version: 1}
			w.reporter.set(t.Context(), seen("1", corev1.ConditionFalse), status(corev1.ConditionTrue), false)
			<-server.patches
			w.reporter.set(t.Context(), c.pod, status(c.now), false)
			server.versions <- "2"
			ended := make(chan struct{})
			go func() { w.ops.Wait(); close(ended) }()
			select {
			case patch := <-server.patches:
				if !strings.Contains(patch, c.want) {
					t.Errorf("patch = %s, want %s in it", patch, c.want)
				}
				server.versions <- "4"
			case <-ended:
				t.Error("nothing is reported")
			}
			<-ended
		})
	}
}
