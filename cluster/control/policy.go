// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"net/netip"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/apiserver/bootstrap"
	"kogge.dev/kogge/client"
)

// NodeNetworkUser is the identity under which a node's Service proxy, DNS, NetworkPolicy, pod routes and local volumes read
// the cluster.
// They share one set of informers, so that a node follows each kind once.
const NodeNetworkUser = "system:kube-proxy"

// Policy is what kogge's own components need besides upstream's policy. Our API server brings it along; on another one somebody
// has to create it before our components can do all that they do.
func Policy() bootstrap.Policy {
	network, join, local, cloud := nodeNetworkPolicy(), joinPolicy(), localVolumePolicy(), bootstrap.CloudPolicy()
	return bootstrap.Policy{
		ClusterRoles:        slices.Concat(network.ClusterRoles, join.ClusterRoles, local.ClusterRoles, cloud.ClusterRoles),
		ClusterRoleBindings: slices.Concat(network.ClusterRoleBindings, join.ClusterRoleBindings, local.ClusterRoleBindings, cloud.ClusterRoleBindings),
		Roles:               join.Roles,
		RoleBindings:        slices.Concat(join.RoleBindings, cloud.RoleBindings),
	}
}

// joinPolicy lets the controllers do what kubeadm's user does by hand: publish the cluster's information, and approve the
// certificates that a joined node needs besides its identity.
func joinPolicy() bootstrap.Policy {
	const name = "kogge:node-join"
	account := func(name string) []rbacv1.Subject {
		return []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceSystem, Name: name}}
	}
	return bootstrap.Policy{
		ClusterRoles: []*rbacv1.ClusterRole{{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Rules: []rbacv1.PolicyRule{{
				Verbs: []string{"approve"}, APIGroups: []string{certificatesv1.GroupName}, Resources: []string{"signers"},
				ResourceNames: []string{certificatesv1.KubeletServingSignerName, certificatesv1.KubeAPIServerClientSignerName},
			}},
		}},
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects:   account("certificate-controller"),
		}},
		Roles: []*rbacv1.Role{{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespacePublic, Name: name},
			Rules:      []rbacv1.PolicyRule{{Verbs: []string{"create"}, APIGroups: []string{""}, Resources: []string{"configmaps"}}},
		}},
		RoleBindings: []*rbacv1.RoleBinding{{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespacePublic, Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
			Subjects:   account("bootstrap-signer"),
		}},
	}
}

// nodeNetworkPolicy adds to upstream's role of the Service proxy what DNS, NetworkPolicy and local volumes read.
func nodeNetworkPolicy() bootstrap.Policy {
	const name = "kogge:node-network"
	read := []string{"get", "list", "watch"}
	return bootstrap.Policy{
		ClusterRoles: []*rbacv1.ClusterRole{{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Rules: []rbacv1.PolicyRule{
				{Verbs: read, APIGroups: []string{""}, Resources: []string{"services", "nodes", "pods", "namespaces", "endpoints", "persistentvolumes"}},
				{Verbs: read, APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}},
				{Verbs: read, APIGroups: []string{"networking.k8s.io"}, Resources: []string{"networkpolicies"}},
			},
		}},
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: NodeNetworkUser}},
		}},
	}
}

// otherProxy is the label by which every Service proxy leaves a Service alone; its value names who serves it.
const (
	otherProxy = "service.kubernetes.io/service-proxy-name"
	dnsProxy   = "kogge-dns"
)

// dnsService reserves the cluster's DNS address. It has no endpoints: every node answers the address itself, so Service proxies,
// ours and others', are told that somebody else serves it. Whoever wants to run another DNS server replaces the Service.
func dnsService(ctx context.Context, c *client.Client, address netip.Addr) error {
	services := client.Of[*corev1.Service](c)
	found, err := services.Get(ctx, metav1.NamespaceSystem, "kube-dns")
	switch {
	case err == nil && len(found.Spec.Selector) == 0 && found.Labels[otherProxy] == "":
		// A data folder from before the label. One with a selector is served by pods, and not ours.
		next := found.DeepCopy()
		metav1.SetMetaDataLabel(&next.ObjectMeta, otherProxy, dnsProxy)
		_, err := services.Update(ctx, next)
		return err
	case !apierrors.IsNotFound(err):
		return err
	}
	single := corev1.IPFamilyPolicySingleStack
	_, err = services.Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceSystem, Name: "kube-dns",
			Labels: map[string]string{
				"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS", otherProxy: dnsProxy,
			},
		},
		Spec: corev1.ServiceSpec{
			ClusterIP: address.String(), IPFamilyPolicy: &single,
			Ports: []corev1.ServicePort{
				{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt32(53)},
				{Name: "dns-tcp", Port: 53, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(53)},
			},
		},
	})
	return err
}

// DNSAddress is the tenth address of the Service range, as everybody expects.
func DNSAddress(services netip.Prefix) netip.Addr {
	address := services.Masked().Addr()
	for range 10 {
		address = address.Next()
	}
	return address
}
