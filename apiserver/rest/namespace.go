// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/kinds"
)

// isNamespace tells the kind whose deletion has a phase of its own.
func isNamespace(t *Target) bool { return t.GVR.Group == "" && t.GVR.Resource == "namespaces" }

// namespaceFinalized tells whether nothing holds a namespace any more.
func namespaceFinalized(obj kinds.Object) bool {
	ns, ok := obj.(*corev1.Namespace)
	return ok && len(ns.Spec.Finalizers) == 0
}

// deleteNamespace marks a namespace as terminating on the first request and keeps it while its spec.finalizers hold it; nil means that it
// may be deleted like anything else.
func deleteNamespace(c *Call, old kinds.Object, now metav1.Time) *outcome {
	ns, ok := old.(*corev1.Namespace)
	if !ok {
		return nil
	}
	if ns.DeletionTimestamp != nil {
		if len(ns.Spec.Finalizers) > 0 {
			return &outcome{keep: true}
		}
		return nil
	}
	next := ns.DeepCopy()
	next.DeletionTimestamp = &now
	next.Status.Phase = corev1.NamespaceTerminating
	garbageFinalizers(c.Target, next, c.Delete)
	return &outcome{obj: next}
}
