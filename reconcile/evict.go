// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
)

// Evict says in a pod's status, by the condition DisruptionTarget, why it goes, and deletes it. A pod that is gone is no error.
func Evict(ctx context.Context, api client.Resource[*corev1.Pod], pod *corev1.Pod, reason, message string) error {
	condition := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: metav1.Now(),
	}
	if pod.Status.ObservedGeneration > 0 {
		condition.ObservedGeneration = pod.Generation
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID}, "status": map[string]any{"conditions": []corev1.PodCondition{condition}},
	})
	if err != nil {
		return err
	}
	if _, err := api.Patch(ctx, pod.Namespace, pod.Name, types.StrategicMergePatchType, patch, "status"); err != nil {
		return client.IgnoreNotFound(err)
	}
	err = api.Delete(ctx, pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	return client.IgnoreNotFound(err)
}
