// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
)

var namespaces = schema.GroupResource{Resource: "namespaces"}

// immortal namespaces can't be deleted.
var immortal = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic}

// namespaceLifecycle refuses to create anything in a namespace that does not exist or is on its way out, and to delete the
// namespaces that the system needs.
type namespaceLifecycle struct{ reader admission.Reader }

// Admit implements admission.Mutator.
func (p namespaceLifecycle) Admit(ctx context.Context, a *admission.Attributes) error {
	if a.Operation == admission.Delete && a.Resource.GroupResource() == namespaces && slices.Contains(immortal, a.Name) {
		return apierrors.NewForbidden(namespaces, a.Name, fmt.Errorf("this namespace may not be deleted"))
	}
	if a.Namespace == "" || a.Resource.GroupResource() == namespaces {
		return nil
	}
	if a.Operation == admission.Delete || a.Resource.Group == "authorization.k8s.io" && a.Resource.Resource == "localsubjectaccessreviews" {
		return nil
	}
	ns, found, err := admission.Get[*corev1.Namespace](ctx, p.reader, namespaces, "", a.Namespace)
	if err == nil && (!found || a.Operation == admission.Create && ns.Status.Phase != corev1.NamespaceTerminating && ns.DeletionTimestamp == nil && !settled(ns)) {
		// Absent, or so young that the cache may be behind: ask the store.
		ns, found, err = admission.GetFresh[*corev1.Namespace](ctx, p.reader, namespaces, "", a.Namespace)
	}
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if !found {
		return apierrors.NewNotFound(namespaces, a.Namespace)
	}
	if a.Operation != admission.Create || ns.Status.Phase != corev1.NamespaceTerminating && ns.DeletionTimestamp == nil {
		return nil
	}
	refusal := apierrors.NewForbidden(a.Resource.GroupResource(), a.NameOrUnknown(), fmt.Errorf("unable to create new content in namespace %s because it is being terminated", a.Namespace))
	refusal.ErrStatus.Details.Causes = append(refusal.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: corev1.NamespaceTerminatingCause, Message: fmt.Sprintf("namespace %s is being terminated", a.Namespace), Field: "metadata.namespace",
	})
	return refusal
}

// settled: the cache of this process is at most moments behind, so only a namespace made a moment ago is worth a second look
// (deleted and made again under the same name).
func settled(ns *corev1.Namespace) bool { return time.Since(ns.CreationTimestamp.Time) > time.Second }
