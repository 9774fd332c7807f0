// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package noderestriction limits what kubelets may write: their own Node, lease and CSINode, mirror pods and the status of pods
// bound to them, and tokens of such pods.
package noderestriction

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/rules/podrefs"
)

// Plugin is the admission plugin.
type Plugin struct {
	// Reader is required.
	Reader admission.Reader
	// NodeName tells nodes (authz/node.NameOf). Required.
	NodeName func(*request.User) (string, bool)
	// Authorizer is asked for token audiences that the pod does not name. Required.
	Authorizer authz.Authorizer
}

// Admit implements admission.Mutator.
func (p *Plugin) Admit(ctx context.Context, a *admission.Attributes) error {
	node, isNode := p.NodeName(&a.User)
	if !isNode {
		return nil
	}
	if node == "" {
		return admission.Forbiddenf(a, "could not determine node from user %q", a.User.Name)
	}
	err := p.judge(ctx, node, a)
	if err == nil || apierrors.IsNotFound(err) {
		return err
	}
	return admission.Forbidden(a, err)
}

func (p *Plugin) judge(ctx context.Context, node string, a *admission.Attributes) error {
	switch a.Resource.GroupResource() {
	case schema.GroupResource{Resource: "pods"}:
		return p.pod(ctx, node, a)
	case schema.GroupResource{Resource: "nodes"}:
		return judgeNode(node, a)
	case schema.GroupResource{Resource: "persistentvolumeclaims"}:
		return judgeClaim(node, a)
	case schema.GroupResource{Resource: "serviceaccounts"}:
		return p.token(ctx, node, a)
	case schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}:
		return judgeLease(node, a)
	case schema.GroupResource{Group: "storage.k8s.io", Resource: "csinodes"}:
		name := a.Name
		if m := a.Meta(); a.Operation == admission.Create && m != nil {
			name = m.GetName()
		}
		if name != node {
			return errors.New("can only access CSINode with the same name as the requesting node")
		}
	case schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceslices"}:
		return judgeSlice(node, a)
	case schema.GroupResource{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}:
		return judgeCSR(node, a)
	}
	return nil
}

func (p *Plugin) pod(ctx context.Context, node string, a *admission.Attributes) error {
	switch a.Subresource {
	case "":
		switch a.Operation {
		case admission.Create:
			return p.mirrorPod(ctx, node, a)
		case admission.Delete:
			pod, err := p.existing(ctx, a, a.Name)
			if err == nil && pod.Spec.NodeName != node {
				err = fmt.Errorf("node %q can only delete pods with spec.nodeName set to itself", node)
			}
			return err
		default:
			return fmt.Errorf("unexpected operation %q, node %q can only create and delete mirror pods", a.Operation, node)
		}
	case "status":
		return judgePodStatus(node, a)
	case "eviction":
		if a.Operation != admission.Create {
			return fmt.Errorf("unexpected operation %s", a.Operation)
		}
		name := a.Name
		if m := a.Meta(); name == "" && m != nil {
			name = m.GetName()
		}
		if name == "" {
			return errors.New("could not determine pod from request data")
		}
		pod, err := p.existing(ctx, a, name)
		if err == nil && pod.Spec.NodeName != node {
			err = fmt.Errorf("node %s can only evict pods with spec.nodeName set to itself", node)
		}
		return err
	}
	return fmt.Errorf("unexpected pod subresource %q, only 'status' and 'eviction' are allowed", a.Subresource)
}

// existing reads a pod; a binding may be newer than the cache, so a pod without a node is read again.
func (p *Plugin) existing(ctx context.Context, a *admission.Attributes, name string) (*corev1.Pod, error) {
	gr := schema.GroupResource{Resource: "pods"}
	pod, found, err := admission.Get[*corev1.Pod](ctx, p.Reader, gr, a.Namespace, name)
	if err == nil && (!found || pod.Spec.NodeName == "") {
		pod, found, err = admission.GetFresh[*corev1.Pod](ctx, p.Reader, gr, a.Namespace, name)
	}
	if err == nil && !found {
		err = apierrors.NewNotFound(schema.GroupResource{Resource: "pod"}, name)
	}
	return pod, err
}

func (p *Plugin) mirrorPod(ctx context.Context, node string, a *admission.Attributes) error {
	pod, ok := admission.Object[*corev1.Pod](a)
	if !ok {
		return fmt.Errorf("unexpected type %T", a.Object)
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
		return fmt.Errorf("pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, node)
	}
	if pod.Spec.NodeName != node {
		return fmt.Errorf("node %q can only create pods with spec.nodeName set to itself", node)
	}
	if err := p.mirrorOwner(ctx, node, pod); err != nil {
		return err
	}
	if what := reference(pod); what != "" {
		return fmt.Errorf("node %q can not create pods that reference %s", node, what)
	}
	return nil
}

func (p *Plugin) mirrorOwner(ctx context.Context, node string, pod *corev1.Pod) error {
	if len(pod.OwnerReferences) > 1 {
		return fmt.Errorf("node %q can only create pods with a single owner reference set to itself", node)
	}
	if len(pod.OwnerReferences) == 0 {
		return fmt.Errorf("node %q can only create pods with an owner reference set to itself", node)
	}
	owner := pod.OwnerReferences[0]
	switch {
	case owner.APIVersion != "v1" || owner.Kind != "Node" || owner.Name != node:
		return fmt.Errorf("node %q can only create pods with an owner reference set to itself", node)
	case owner.Controller == nil || !*owner.Controller:
		return fmt.Errorf("node %q can only create pods with a controller owner reference set to itself", node)
	case owner.BlockOwnerDeletion != nil && *owner.BlockOwnerDeletion:
		return fmt.Errorf("node %q must not set blockOwnerDeletion on an owner reference", node)
	}
	obj, found, err := admission.GetAny[*corev1.Node](ctx, p.Reader, schema.GroupResource{Resource: "nodes"}, "", node)
	switch {
	case err != nil:
		return fmt.Errorf("error looking up node %s to verify uid: %w", node, err)
	case !found:
		return apierrors.NewNotFound(schema.GroupResource{Resource: "node"}, node)
	case owner.UID != obj.UID:
		return fmt.Errorf("node %s UID mismatch: expected %s got %s", node, owner.UID, obj.UID)
	}
	return nil
}

// reference names the first sort of API object that the pod refers to, or nothing.
func reference(pod *corev1.Pod) string {
	if pod.Spec.ServiceAccountName != "" {
		return podrefs.ServiceAccounts
	}
	for _, resource := range []string{podrefs.Secrets, podrefs.ConfigMaps, podrefs.ResourceClaims} {
		if podrefs.Has(pod, resource) {
			return resource
		}
	}
	for r := range podrefs.All(pod) { // volumes name all that is left
		switch {
		case r.Volume.CSI != nil:
			return r.Resource + " (via CSI volumes)"
		case r.Volume.Glusterfs != nil:
			return r.Resource + " (via glusterFS volumes)"
		case r.Volume.Ephemeral != nil:
			return r.Resource + " (via ephemeral volumes)"
		case r.Resource == podrefs.ServiceAccounts:
			return r.Resource + " (via projected volumes)"
		}
		return r.Resource
	}
	return ""
}

func judgePodStatus(node string, a *admission.Attributes) error {
	if a.Operation != admission.Update {
		return fmt.Errorf("unexpected operation %q", a.Operation)
	}
	old, ok1 := admission.Old[*corev1.Pod](a)
	pod, ok2 := admission.Object[*corev1.Pod](a)
	switch {
	case !ok1 || !ok2:
		return fmt.Errorf("unexpected type %T", a.Object)
	case old.Spec.NodeName != node:
		return fmt.Errorf("node %q can only update pod status for pods with spec.nodeName set to itself", node)
	case !maps.Equal(old.Labels, pod.Labels):
		return fmt.Errorf("node %q cannot update labels through pod status", node)
	case !equal.Semantic(old.Status.ResourceClaimStatuses, pod.Status.ResourceClaimStatuses):
		return fmt.Errorf("node %q cannot update resource claim statues", node)
	case !equal.Semantic(old.Status.ExtendedResourceClaimStatus, pod.Status.ExtendedResourceClaimStatus):
		return fmt.Errorf("node %q cannot update extended resource claim status", node)
	}
	return nil
}

func judgeClaim(node string, a *admission.Attributes) error {
	if a.Subresource != "status" {
		return errors.New("may only update PVC status")
	}
	if a.Operation != admission.Update {
		return fmt.Errorf("unexpected operation %q", a.Operation)
	}
	old, ok1 := admission.Old[*corev1.PersistentVolumeClaim](a)
	claim, ok2 := admission.Object[*corev1.PersistentVolumeClaim](a)
	if !ok1 || !ok2 {
		return fmt.Errorf("unexpected type %T", a.Object)
	}
	plain := func(c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
		c = c.DeepCopy()
		c.ResourceVersion, c.ManagedFields = "", nil
		c.Status.Capacity, c.Status.Conditions, c.Status.AllocatedResources, c.Status.AllocatedResourceStatuses = nil, nil, nil, nil
		return c
	}
	if !equal.Semantic(plain(old), plain(claim)) {
		return fmt.Errorf("node %q is not allowed to update fields other than status.quantity and status.conditions", node)
	}
	return nil
}

func judgeNode(node string, a *admission.Attributes) error {
	name := a.Name
	if m := a.Meta(); name == "" && m != nil {
		name = m.GetName()
	}
	if name != node {
		return fmt.Errorf("node %q is not allowed to modify node %q", node, name)
	}
	if a.Operation != admission.Create && a.Operation != admission.Update {
		return nil
	}
	obj, ok := admission.Object[*corev1.Node](a)
	if !ok {
		return fmt.Errorf("unexpected type %T", a.Object)
	}
	if a.Operation == admission.Create {
		if obj.Spec.ConfigSource != nil {
			return fmt.Errorf("node %q is not allowed to create pods with a non-nil configSource", node)
		}
		if list := forbiddenLabels(obj.Labels, nil); len(list) > 0 {
			return fmt.Errorf("node %q is not allowed to set the following labels: %s", node, strings.Join(list, ", "))
		}
		return nil
	}
	old, ok := admission.Old[*corev1.Node](a)
	switch {
	case !ok:
		return fmt.Errorf("unexpected type %T", a.Old)
	case obj.Spec.ConfigSource != nil && !equal.Semantic(obj.Spec.ConfigSource, old.Spec.ConfigSource):
		return fmt.Errorf("node %q is not allowed to update configSource to a new non-nil configSource", node)
	case !equal.Semantic(obj.Spec.Taints, old.Spec.Taints):
		return fmt.Errorf("node %q is not allowed to modify taints", node)
	case !equal.Semantic(obj.OwnerReferences, old.OwnerReferences):
		return fmt.Errorf("node %q is not allowed to modify ownerReferences", node)
	}
	if list := forbiddenLabels(obj.Labels, old.Labels); len(list) > 0 {
		return fmt.Errorf("is not allowed to modify labels: %s", strings.Join(list, ", "))
	}
	return nil
}

// forbiddenLabels returns the changed labels that only administrators may set: those of the node-restriction prefix, and those
// under kubernetes.io and k8s.io that kubelets do not own.
func forbiddenLabels(now, before map[string]string) []string {
	var out []string
	check := func(key string) {
		prefix, _, ok := strings.Cut(key, "/")
		if !ok {
			return
		}
		if under(prefix, corev1.LabelNamespaceNodeRestriction) || (under(prefix, "kubernetes.io") || under(prefix, "k8s.io")) && !kubeletLabel(key, prefix) {
			out = append(out, key)
		}
	}
	for k, v := range now {
		if old, ok := before[k]; !ok || old != v {
			check(k)
		}
	}
	for k := range before {
		if _, ok := now[k]; !ok {
			check(k)
		}
	}
	sort.Strings(out)
	return slices.Compact(out)
}

func under(prefix, domain string) bool {
	return prefix == domain || strings.HasSuffix(prefix, "."+domain)
}

func kubeletLabel(key, prefix string) bool {
	switch key {
	case corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
		corev1.LabelInstanceType, corev1.LabelInstanceTypeStable, corev1.LabelOSStable, corev1.LabelArchStable, "beta.kubernetes.io/os", "beta.kubernetes.io/arch":
		return true
	}
	return under(prefix, "kubelet.kubernetes.io") || under(prefix, "node.kubernetes.io")
}

func judgeLease(node string, a *admission.Attributes) error {
	if a.Namespace != corev1.NamespaceNodeLease {
		return fmt.Errorf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	name := a.Name
	if lease, ok := admission.Object[*coordinationv1.Lease](a); ok && a.Operation == admission.Create {
		name = lease.Name
	}
	if name != node {
		return errors.New("can only access node lease with the same name as the requesting node")
	}
	return nil
}

func judgeSlice(node string, a *admission.Attributes) error {
	mine := func(s *resourcev1.ResourceSlice, ok bool) bool {
		return ok && s.Spec.NodeName != nil && *s.Spec.NodeName == node
	}
	switch a.Operation {
	case admission.Create:
		if !mine(admission.Object[*resourcev1.ResourceSlice](a)) {
			return errors.New("can only create ResourceSlice with the same NodeName as the requesting node")
		}
	case admission.Delete:
		if !mine(admission.Old[*resourcev1.ResourceSlice](a)) {
			return errors.New("can only delete ResourceSlice with the same NodeName as the requesting node")
		}
	default:
	}
	return nil
}

func judgeCSR(node string, a *admission.Attributes) error {
	csr, ok := admission.Object[*certificatesv1.CertificateSigningRequest](a)
	if !ok || a.Operation != admission.Create {
		return nil
	}
	if csr.Spec.SignerName != certificatesv1.KubeletServingSignerName && csr.Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName {
		return nil
	}
	block, _ := pem.Decode(csr.Spec.Request)
	if block == nil {
		return errors.New("unable to parse csr: PEM block type must be CERTIFICATE REQUEST")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return fmt.Errorf("unable to parse csr: %w", err)
	}
	if req.Subject.CommonName != request.NodePrefix+node {
		return fmt.Errorf("can only create a node CSR with CN=system:node:%s", node)
	}
	return nil
}

// token lets a node ask for tokens of its pods only, bound to them, and for audiences that they use.
func (p *Plugin) token(ctx context.Context, node string, a *admission.Attributes) error {
	if a.Operation != admission.Create || a.Subresource != "token" {
		return nil
	}
	tr, ok := a.Object.(*authenticationv1.TokenRequest)
	if !ok {
		return fmt.Errorf("unexpected type %T", a.Object)
	}
	ref := tr.Spec.BoundObjectRef
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "" {
		return errors.New("node requested token not bound to a pod")
	}
	if ref.UID == "" {
		return errors.New("node requested token with a pod binding without a uid")
	}
	pod, err := p.existing(ctx, a, ref.Name)
	switch {
	case err != nil:
		return err
	case ref.UID != pod.UID:
		return fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	case pod.Spec.NodeName != node:
		return errors.New("node requested token bound to a pod scheduled on a different node")
	}
	return p.audience(ctx, a, tr, pod)
}

// audience: the contract's token requests arrive with the audiences as sent; none means the API server's own.
func (p *Plugin) audience(ctx context.Context, a *admission.Attributes, tr *authenticationv1.TokenRequest, pod *corev1.Pod) error {
	audience := ""
	switch len(tr.Spec.Audiences) {
	case 0:
	case 1:
		audience = tr.Spec.Audiences[0]
	default:
		return errors.New("node may only request 0 or 1 audiences")
	}
	found, findErr := p.uses(ctx, pod, audience)
	if found {
		return nil
	}
	decision, _, err := p.Authorizer.Authorize(ctx, &authz.Attributes{
		User: a.User, ResourceRequest: true, Verb: "request-serviceaccounts-token-audience", Namespace: a.Namespace,
		APIVersion: "v1", Resource: audience, Name: a.Name,
	})
	if decision == authz.Allow {
		return nil
	}
	if findErr != nil {
		return fmt.Errorf("error validating audience %q: %s", audience, findErr.Error()) // What is missing is a reason, not the answer.
	}
	if err != nil {
		return fmt.Errorf("audience %q not found in pod spec volume, error authorizing %s to request tokens for this audience: %w", audience, a.User.Name, err)
	}
	return fmt.Errorf("audience %q not found in pod spec volume, %s is not authorized to request tokens for this audience", audience, a.User.Name)
}
