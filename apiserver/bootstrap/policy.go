// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bufio"
	"bytes"
	_ "embed" // the default policy
	"encoding/json"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// policyLines is upstream's default policy for v1.36, one object per line: ClusterRoles, ClusterRoleBindings, Roles and
// RoleBindings, without what all of them share (API version, autoupdate annotation, bootstrapping label).
//
//go:embed policy.jsonl
var policyLines []byte

// What every object of the default policy carries.
const (
	autoUpdateAnnotation = "rbac.authorization.kubernetes.io/autoupdate"
	bootstrapLabel       = "kubernetes.io/bootstrapping"
	bootstrapValue       = "rbac-defaults"
)

// Policy is a set of RBAC objects.
type Policy struct {
	ClusterRoles        []*rbacv1.ClusterRole
	ClusterRoleBindings []*rbacv1.ClusterRoleBinding
	Roles               []*rbacv1.Role
	RoleBindings        []*rbacv1.RoleBinding
}

// DefaultPolicy returns upstream's default policy.
func DefaultPolicy() (Policy, error) {
	var p Policy
	lines := bufio.NewScanner(bytes.NewReader(policyLines))
	for n := 1; lines.Scan(); n++ {
		var head metav1.TypeMeta
		if err := json.Unmarshal(lines.Bytes(), &head); err != nil {
			return p, fmt.Errorf("default policy, line %d: %w", n, err)
		}
		var err error
		switch head.Kind {
		case "ClusterRole":
			p.ClusterRoles, err = appendObject(p.ClusterRoles, lines.Bytes(), &rbacv1.ClusterRole{})
		case "ClusterRoleBinding":
			p.ClusterRoleBindings, err = appendObject(p.ClusterRoleBindings, lines.Bytes(), &rbacv1.ClusterRoleBinding{})
		case "Role":
			p.Roles, err = appendObject(p.Roles, lines.Bytes(), &rbacv1.Role{})
		case "RoleBinding":
			p.RoleBindings, err = appendObject(p.RoleBindings, lines.Bytes(), &rbacv1.RoleBinding{})
		default:
			err = fmt.Errorf("unknown kind %q", head.Kind)
		}
		if err != nil {
			return p, fmt.Errorf("default policy, line %d: %w", n, err)
		}
	}
	return p, lines.Err()
}

// NodeRules returns the rules that hold for all nodes alike, for the node authorizer.
func NodeRules() ([]rbacv1.PolicyRule, error) {
	p, err := DefaultPolicy()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(p.ClusterRoles, func(r *rbacv1.ClusterRole) bool { return r.Name == "system:node" })
	if i < 0 {
		return nil, fmt.Errorf("default policy has no system:node role")
	}
	return p.ClusterRoles[i].Rules, nil
}

func appendObject[T interface{ metav1.Object }](list []T, line []byte, obj T) ([]T, error) {
	if err := json.Unmarshal(line, obj); err != nil {
		return nil, err
	}
	mark(obj)
	return append(list, obj), nil
}

// mark gives an object what makes it part of the default policy: it is kept up to date at every start until somebody sets
// the annotation to false.
func mark(obj metav1.Object) {
	annotations := obj.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[autoUpdateAnnotation] = "true"
	obj.SetAnnotations(annotations)
	labels := obj.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[bootstrapLabel] = bootstrapValue
	obj.SetLabels(labels)
}

// Identities of kogge's own components where upstream installs them as add-ons with roles of their own.
const (
	// DNSUser is what the DNS server calls itself.
	DNSUser = "system:serviceaccount:kube-system:coredns"
	// CloudUser is what the cloud loops call themselves.
	CloudUser = "system:cloud-controller-manager"
	// MetricsUser is what the built-in metrics API calls itself when it reads kubelets.
	MetricsUser = "system:serviceaccount:kube-system:metrics-server"
)

// AddOnPolicy returns what installers add to the default policy: roles for DNS, the metrics API and the join by bootstrap token (kubeadm's
// names).
func AddOnPolicy() Policy {
	read := l("get", "list", "watch")
	return Policy{
		ClusterRoles: []*rbacv1.ClusterRole{
			clusterRole("system:coredns",
				rule(read, l(""), l("endpoints", "services", "pods", "namespaces", "nodes")),
				rule(read, l("discovery.k8s.io"), l("endpointslices"))),
			clusterRole("system:metrics-server",
				rule(l("get"), l(""), l("nodes/metrics", "nodes/stats")),
				rule(read, l(""), l("pods", "nodes", "namespaces"))),
			clusterRole("kubeadm:get-nodes", rule(l("get"), l(""), l("nodes"))),
		},
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{
			bindCluster("system:coredns", "system:coredns", serviceAccount("coredns")),
			bindCluster("system:metrics-server", "system:metrics-server", serviceAccount("metrics-server")),
			bindCluster("metrics-server:system:auth-delegator", "system:auth-delegator", serviceAccount("metrics-server")),
			bindCluster("kubeadm:get-nodes", "kubeadm:get-nodes", groupOf("system:bootstrappers")),
			bindCluster("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", groupOf("system:bootstrappers")),
			bindCluster("kubeadm:node-autoapprove-bootstrap", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", groupOf("system:bootstrappers")),
			bindCluster("kubeadm:node-autoapprove-certificate-rotation", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", groupOf("system:nodes")),
			bindCluster("kubeadm:cluster-admins", "cluster-admin", groupOf("kubeadm:cluster-admins")),
			// The API server's own client certificate towards kubelets.
			bindCluster("system:kube-apiserver-kubelet", "system:kubelet-api-admin", user("kube-apiserver-kubelet-client")),
		},
		Roles: []*rbacv1.Role{
			role("kube-public", "kubeadm:bootstrap-signer-clusterinfo", rule(l("get"), l(""), l("configmaps"), "cluster-info")),
		},
		RoleBindings: []*rbacv1.RoleBinding{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-public", Name: "kubeadm:bootstrap-signer-clusterinfo"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "kubeadm:bootstrap-signer-clusterinfo"},
			Subjects:   []rbacv1.Subject{user("system:anonymous")},
		}, {
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "metrics-server-auth-reader"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "extension-apiserver-authentication-reader"},
			Subjects:   []rbacv1.Subject{serviceAccount("metrics-server")},
		}},
	}
}

// CloudPolicy returns what upstream leaves to the cloud's vendor: the role of the cloud loops, under which they also serve a secure port.
func CloudPolicy() Policy {
	const name = "system:cloud-controller-manager"
	read, all := l("get", "list", "watch"), l("get", "list", "watch", "create", "update", "patch", "delete")
	return Policy{
		ClusterRoles: []*rbacv1.ClusterRole{clusterRole(name,
			rule(all, l(""), l("nodes")),
			rule(l("patch", "update"), l(""), l("nodes/status", "services/status")),
			rule(l("get", "list", "watch", "update", "patch"), l(""), l("services")),
			rule(read, l(""), l("pods", "namespaces", "configmaps")),
			rule(read, l("discovery.k8s.io"), l("endpointslices")),
			rule(l("create", "patch", "update"), l("", "events.k8s.io"), l("events")),
			rule(l("create", "get", "list", "watch", "update", "patch"), l("coordination.k8s.io"), l("leases")),
			rule(l("create", "get"), l(""), l("serviceaccounts")),
			rule(l("create"), l(""), l("serviceaccounts/token")))},
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{
			bindCluster(name, name, user(CloudUser)),
			bindCluster(name+":system:auth-delegator", "system:auth-delegator", user(CloudUser)),
		},
		RoleBindings: []*rbacv1.RoleBinding{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name + "-auth-reader"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "extension-apiserver-authentication-reader"},
			Subjects:   []rbacv1.Subject{user(CloudUser)},
		}},
	}
}

func l(s ...string) []string { return s }

func rule(verbs, groups, resources []string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs, APIGroups: groups, Resources: resources, ResourceNames: names}
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
}

func role(namespace, name string, rules ...rbacv1.PolicyRule) *rbacv1.Role {
	return &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Rules: rules}
}

func bindCluster(name, to string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: to},
		Subjects:   subjects,
	}
}

func user(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}
}

func groupOf(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: name}
}

func serviceAccount(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "kube-system", Name: name}
}
