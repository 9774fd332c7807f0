// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package testcluster

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
)

// RunPods plays the nodes until the test ends: every pending pod that run wants (all, when run is nil) becomes running and
// ready, and every pod on a node that is being deleted goes at once.
func RunPods(t testing.TB, c *client.Client, run func(*corev1.Pod) bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	informers := client.NewInformers(c, slog.New(slog.DiscardHandler))
	wake := make(chan *corev1.Pod, 1024) // more pods than a test makes
	f := client.InformerFor[*corev1.Pod](informers)
	f.Handle(client.Handler[*corev1.Pod]{Add: func(p *corev1.Pod) { wake <- p }, Update: func(_, p *corev1.Pod) { wake <- p }})
	api := client.Of[*corev1.Pod](c)
	ended := make(chan error, 2)
	go func() { ended <- informers.Run(ctx) }()
	go func() {
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case pod := <-wake:
				playPod(ctx, api, pod, run)
			}
		}
		ended <- nil
	}()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
	})
}

// playPod takes one step for a pod. Its errors are those of a pod that has changed meanwhile: its next state comes too.
func playPod(ctx context.Context, api client.Resource[*corev1.Pod], pod *corev1.Pod, run func(*corev1.Pod) bool) {
	switch {
	case pod.DeletionTimestamp != nil:
		_ = api.Delete(ctx, pod.Namespace, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &pod.UID},
		})
	case pod.Status.Phase == corev1.PodPending && (run == nil || run(pod)):
		next, now := pod.DeepCopy(), metav1.Now()
		next.Status.Phase, next.Status.StartTime = corev1.PodRunning, &now
		next.Status.Conditions = append(next.Status.Conditions, corev1.PodCondition{
			Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: now,
		})
		_, _ = api.UpdateStatus(ctx, next)
	}
}
