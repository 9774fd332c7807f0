// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
)

// blockedReason is the reason of events about webhooks that keep their own backend away.
const blockedReason = "WebhookBlocksItsBackend"

// reportBlocked says so, in an event about the configuration, where a hook whose call failed refuses what it needs to be called: the cluster
// can't get out of that by itself.
func (c *Config) reportBlocked(ctx context.Context, a *admission.Attributes, h *hook) {
	if c.Events == nil || a.DryRun || !c.ownBackend(ctx, a, h) {
		return
	}
	about := corev1.ObjectReference{
		APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingWebhookConfiguration", Name: h.configuration, UID: h.uid,
	}
	if h.mutating {
		about.Kind = "MutatingWebhookConfiguration"
	}
	c.Events(about, corev1.EventTypeWarning, blockedReason,
		"calls of webhook %s fail, which refuses %s of its own Service %s/%s: leave namespace %s out by the namespaceSelector, or set failurePolicy to Ignore",
		h.name, a.Resource.Resource, h.target.Namespace, h.target.Service, h.target.Namespace)
}

// ownBackend reports whether a request makes what a hook's Service needs: one of its pods, or its endpoints.
func (c *Config) ownBackend(ctx context.Context, a *admission.Attributes, h *hook) bool {
	m := a.Meta()
	if m == nil || h.target.Service == "" || a.Namespace != h.target.Namespace || a.Operation != admission.Create && a.Operation != admission.Update {
		return false
	}
	switch a.Resource.GroupResource() {
	case schema.GroupResource{Resource: "pods"}:
		service, found, err := admission.GetAny[*corev1.Service](ctx, c.Reader, schema.GroupResource{Resource: "services"}, h.target.Namespace, h.target.Service)
		return err == nil && found && len(service.Spec.Selector) > 0 && labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(m.GetLabels()))
	case schema.GroupResource{Resource: "endpoints"}:
		return m.GetName() == h.target.Service
	case schema.GroupResource{Group: discoveryv1.GroupName, Resource: "endpointslices"}:
		return m.GetLabels()[discoveryv1.LabelServiceName] == h.target.Service
	default:
		return false
	}
}
