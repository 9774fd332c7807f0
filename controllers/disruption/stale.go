// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package disruption

import (
	"context"
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
)

// NewStale makes the loop that takes the condition DisruptionTarget back from pods that were told to go but did not.
func NewStale(scope reconcile.Scope) *reconcile.Loop {
	informer := client.InformerFor[*corev1.Pod](scope.Informers)
	api := client.Of[*corev1.Pod](scope.Client)
	loop := reconcile.New(reconcile.Config{
		Name: "disruption-condition-controller", Log: scope.Log, Informers: scope.Informers,
		Reconcile: func(ctx context.Context, key reconcile.Key) error {
			pod, ok := informer.Get(key.Namespace, key.Name)
			if !ok || !doomed(pod) {
				return nil
			}
			told := pods.Condition(pod, corev1.DisruptionTarget)
			if left := time.Until(told.LastTransitionTime.Add(patience)); left > 0 {
				return reconcile.After(left)
			}
			patch, err := json.Marshal(map[string]any{
				"metadata": map[string]any{"uid": pod.UID},
				"status": map[string]any{"conditions": []map[string]any{{
					"type": corev1.DisruptionTarget, "status": corev1.ConditionFalse, "reason": nil, "message": nil,
					"lastTransitionTime": metav1.Now(),
				}}},
			})
			if err != nil {
				return err
			}
			_, err = api.Patch(ctx, pod.Namespace, pod.Name, types.StrategicMergePatchType, patch, "status")
			return client.IgnoreNotFound(err)
		},
	})
	reconcile.On(loop, informer, func(pod *corev1.Pod) []reconcile.Key {
		if !doomed(pod) {
			return nil
		}
		return []reconcile.Key{reconcile.KeyOf(pod)}
	})
	return loop
}

// doomed reports whether a pod bears the condition and yet lives. A kubelet's own may take any time.
func doomed(pod *corev1.Pod) bool {
	c := pods.Condition(pod, corev1.DisruptionTarget)
	return c != nil && c.Status == corev1.ConditionTrue && c.Reason != corev1.PodReasonTerminationByKubelet && pods.IsActive(pod)
}
