// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package node authorizes kubelets: each may reach its own Node, lease and CSINode, the pods bound to it, and what those pods
// refer to, and nothing else.
//
// The relation "a pod of this node refers to it" is read from the watch cache at the time of the question:
//
//	node <- pod <- secret, configmap, serviceaccount, resourceclaim
//	node <- pod <- persistentvolumeclaim <- persistentvolume <- secret
//	node <- volumeattachment, resourceslice
//	node <- configmap of its dynamic configuration: gone upstream, never here
package node

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/request"
	rules "kogge.dev/kogge/rules/rbac"
)

// NameOf returns the node that a user is, or false for users who are no node. A member of system:nodes whose name is not a
// node's is a node without a name.
func NameOf(u *request.User) (name string, isNode bool) {
	for _, g := range u.Groups {
		if g == request.GroupNodes {
			name, _ = strings.CutPrefix(u.Name, request.NodePrefix)
			if name == u.Name {
				return "", false
			}
			return name, true
		}
	}
	return "", false
}

// Authorizer is the node authorizer. It never denies.
type Authorizer struct {
	related related
	rules   []rbacv1.PolicyRule
}

// New makes the authorizer. uniform are the rules that hold for all nodes alike (the system:node cluster role's).
func New(reader admission.Reader, uniform []rbacv1.PolicyRule) *Authorizer {
	return &Authorizer{related: related{reader: reader}, rules: uniform}
}

var _ authz.Authorizer = (*Authorizer)(nil)

// Authorize implements authz.Authorizer.
func (z *Authorizer) Authorize(ctx context.Context, a *authz.Attributes) (authz.Decision, string, error) {
	name, isNode := NameOf(&a.User)
	if !isNode {
		return authz.NoOpinion, "", nil
	}
	if name == "" {
		return authz.NoOpinion, fmt.Sprintf("unknown node for user %q", a.User.Name), nil
	}
	if a.ResourceRequest {
		if judge := z.judge(schema.GroupResource{Group: a.APIGroup, Resource: a.Resource}); judge != nil {
			return judge(ctx, name, a)
		}
	}
	req := rules.Request{
		IsResource: a.ResourceRequest, Verb: a.Verb, APIGroup: a.APIGroup, Resource: a.Resource, Subresource: a.Subresource,
		Name: a.Name, Path: a.Path,
	}
	if rules.Allows(z.rules, &req) {
		return authz.Allow, "", nil
	}
	return authz.NoOpinion, "", nil
}

type judgement func(ctx context.Context, node string, a *authz.Attributes) (authz.Decision, string, error)

func (z *Authorizer) judge(gr schema.GroupResource) judgement {
	switch gr.Group {
	case "":
		switch gr.Resource {
		case "secrets":
			return z.readNamespaced(z.related.secret)
		case "configmaps":
			return z.readNamespaced(z.related.configMap)
		case "persistentvolumeclaims":
			return z.claim
		case "persistentvolumes":
			return z.get(z.related.volume)
		case "serviceaccounts":
			return z.serviceAccount
		case "nodes":
			return z.node
		case "pods":
			return z.pod
		}
	case resourcev1.GroupName:
		switch gr.Resource {
		case "resourceclaims":
			return z.get(z.related.resourceClaim)
		case "resourceslices":
			return z.slice
		}
	case storagev1.GroupName:
		switch gr.Resource {
		case "volumeattachments":
			return z.get(z.related.attachment)
		case "csinodes":
			return z.csiNode
		}
	case "coordination.k8s.io":
		if gr.Resource == "leases" {
			return z.lease
		}
	}
	return nil
}

func allow() (authz.Decision, string, error) { return authz.Allow, "", nil }

func pass(reason string) (authz.Decision, string, error) { return authz.NoOpinion, reason, nil }

// relation tells whether an object belongs to a node.
type relation func(ctx context.Context, node, namespace, name string) (bool, error)

func (z *Authorizer) ask(ctx context.Context, node string, a *authz.Attributes, rel relation) (authz.Decision, string, error) {
	if a.Name == "" {
		return pass("No Object name found")
	}
	ok, err := rel(ctx, node, a.Namespace, a.Name)
	if err != nil || !ok {
		return authz.NoOpinion, fmt.Sprintf("no relationship found between node '%s' and this object", node), err
	}
	return allow()
}

// get allows reading single objects that are related.
func (z *Authorizer) get(rel relation) judgement {
	return func(ctx context.Context, node string, a *authz.Attributes) (authz.Decision, string, error) {
		switch {
		case a.Verb != "get":
			return pass("can only get individual resources of this type")
		case a.Subresource != "":
			return pass("cannot get subresource")
		}
		return z.ask(ctx, node, a, rel)
	}
}

// readNamespaced allows get, list and watch of a single related object.
func (z *Authorizer) readNamespaced(rel relation) judgement {
	return func(ctx context.Context, node string, a *authz.Attributes) (authz.Decision, string, error) {
		switch {
		case a.Verb != "get" && a.Verb != "list" && a.Verb != "watch":
			return pass("can only read resources of this type")
		case a.Subresource != "":
			return pass("cannot read subresource")
		case a.Namespace == "":
			return pass("can only read namespaced object of this type")
		}
		return z.ask(ctx, node, a, rel)
	}
}

func (z *Authorizer) claim(ctx context.Context, node string, a *authz.Attributes) (authz.Decision, string, error) {
	if a.Subresource != "status" {
		return z.get(z.related.claim)(ctx, node, a)
	}
	if a.Verb != "update" && a.Verb != "patch" {
		return pass("can only get/update/patch this type")
	}
	return z.ask(ctx, node, a, z.related.claim)
}

func (z *Authorizer) serviceAccount(ctx context.Context, node string, a *authz.Attributes) (authz.Decision, string, error) {
	switch {
	case a.Verb == "get" && a.Subresource == "":
		return z.readNamespaced(z.related.serviceAccount)(ctx, node, a)
	case a.Verb != "create" || a.Name == "":
		return pass("can only create tokens for individual service accounts")
	case a.Subresource != "token":
		return pass("can only create token subresource of serviceaccount")
	}
	return z.ask(ctx, node, a, z.related.serviceAccount)
}

func (z *Authorizer) lease(_ context.Context, node string, a *authz.Attributes) (authz.Decision, string, error) {
	switch {
	case !ownVerb(a.Verb):
		return pass("can only get, create, update, patch, or delete a node lease")
	case a.Namespace != corev1.NamespaceNodeLease:
		return pass(fmt.Sprintf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease))
	case a.Verb != "create" && a.Name != node:
		// A create's name is in the body: NodeRestriction looks there.
		return pass("can only access node lease with the same name as the requesting node")
	}
	return allow()
}

func (z *Authorizer) csiNode(_ context.Context, node string, a *authz.Attributes) (authz.Decision, string, error) {
	switch {
	case !ownVerb(a.Verb):
		return pass("can only get, create, update, patch, or delete a CSINode")
	case a.Subresource != "":
		return pass("cannot authorize CSINode subresources")
	case a.Verb != "create" && a.Name != node:
		return pass("can only access CSINode with the same name as the requesting node")
	}
	return allow()
}

func ownVerb(verb string) bool {
	switch verb {
	case "get", "create", "update", "patch", "delete":
		return true
	}
	return false
}

func (z *Authorizer) slice(ctx context.Context, node string, a *authz.Attributes) (authz.Decision, string, error) {
	if a.Subresource != "" {
		return pass("cannot authorize ResourceSlice subresources")
	}
	switch a.Verb {
	case "create":
		return allow()
	case "get", "update", "patch", "delete":
		return z.ask(ctx, node, a, z.related.resourceSlice)
	case "watch", "list", "deletecollection":
		if selects(a.FieldSelector, "spec.nodeName", node) {
			return allow()
		}
		return pass("can only list/watch/deletecollection resourceslices with nodeName field selector")
	}
	return pass("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection")
}

func selects(reqs fields.Requirements, name, value string) bool {
	for _, r := range reqs {
		if r.Field == name && r.Operator == selection.Equals && r.Value == value {
			return true
		}
	}
	return false
}

// node leaves it to NodeRestriction that a node writes only itself.
func (z *Authorizer) node(_ context.Context, node string, a *authz.Attributes) (authz.Decision, string, error) {
	switch a.Subresource + " " + a.Verb {
	case " create", " update", " patch", "status update", "status patch":
		return allow()
	case " get", " list", " watch":
		switch a.Name {
		case node:
			return allow()
		case "":
			return pass(fmt.Sprintf("node '%s' cannot read all nodes, only its own Node object", node))
		}
		return pass(fmt.Sprintf("node '%s' cannot read '%s', only its own Node object", node, a.Name))
	}
	return pass("")
}

func (z *Authorizer) pod(ctx context.Context, node string, a *authz.Attributes) (authz.Decision, string, error) {
	switch a.Subresource + " " + a.Verb {
	case " get":
		return z.get(z.related.pod)(ctx, node, a)
	case " list", " watch":
		if selects(a.FieldSelector, "spec.nodeName", node) {
			return allow()
		}
		if a.Name != "" {
			return z.ask(ctx, node, a, z.related.pod)
		}
		return pass("can only list/watch pods with spec.nodeName field selector")
	case " create", " delete", "status update", "status patch", "eviction create":
		// NodeRestriction limits these to mirror pods and to pods of the node.
		return allow()
	}
	return pass("")
}
