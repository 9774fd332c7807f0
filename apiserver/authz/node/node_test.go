// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/selection"

	"kogge.dev/kogge/apiserver/admission/admissiontest"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/authz/node"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/kinds"
)

func pod(name, nodeName string, spec corev1.PodSpec) *corev1.Pod {
	spec.NodeName = nodeName
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: spec}
}

func cluster() []kinds.Object {
	envFrom := func(secret, config string) []corev1.Container {
		return []corev1.Container{{EnvFrom: []corev1.EnvFromSource{
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: secret}}},
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: config}}},
		}}}
	}
	projected := corev1.Volume{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "projected"}}},
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "projected"}}},
	}}}}
	return []kinds.Object{
		pod("p1", "n1", corev1.PodSpec{
			ServiceAccountName: "bot", ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}, Containers: envFrom("env", "env"), InitContainers: envFrom("init", "init"),
			ResourceClaims: []corev1.PodResourceClaim{{Name: "r", ResourceClaimName: new("gpu")}},
			Volumes: []corev1.Volume{
				{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "volume"}}},
				projected,
				{Name: "c", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
				{Name: "e", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
			},
		}),
		pod("p2", "n2", corev1.PodSpec{ServiceAccountName: "other", ImagePullSecrets: []corev1.LocalObjectReference{{Name: "theirs"}}}),
		pod("waiting", "", corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "waiting"}}}),
		&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{
			ClaimRef: &corev1.ObjectReference{Namespace: "ns", Name: "data"},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				NodeStageSecretRef: &corev1.SecretReference{Namespace: "csi", Name: "stage"},
			}},
		}},
		&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "free"}},
		&storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "va1"}, Spec: storagev1.VolumeAttachmentSpec{NodeName: "n1"}},
		&storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "va2"}, Spec: storagev1.VolumeAttachmentSpec{NodeName: "n2"}},
		&resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "slice1"}, Spec: resourcev1.ResourceSliceSpec{NodeName: new("n1")}},
	}
}

func TestAuthorize(t *testing.T) {
	uniform := []rbacv1.PolicyRule{{Verbs: []string{"create"}, APIGroups: []string{""}, Resources: []string{"events"}}}
	z := node.New(admissiontest.NewReader(cluster()...), uniform)
	mine := fields.Requirements{{Field: "spec.nodeName", Operator: selection.Equals, Value: "n1"}}
	ask := func(verb, group, resource, sub, ns, name string, sel ...fields.Requirement) *authz.Attributes {
		return &authz.Attributes{
			User: request.User{Name: "system:node:n1", Groups: []string{request.GroupNodes}}, ResourceRequest: true,
			Verb: verb, APIGroup: group, Resource: resource, Subresource: sub, Namespace: ns, Name: name, FieldSelector: sel,
		}
	}
	for _, c := range []struct {
		a    *authz.Attributes
		want bool
	}{
		{ask("get", "", "secrets", "", "ns", "volume"), true},
		{ask("watch", "", "secrets", "", "ns", "projected"), true},
		{ask("get", "", "secrets", "", "ns", "pull"), true},
		{ask("get", "", "secrets", "", "ns", "env"), true},
		{ask("get", "", "secrets", "", "ns", "init"), true},
		{ask("get", "", "secrets", "", "csi", "stage"), true},
		{ask("get", "", "secrets", "", "ns", "stage"), false},
		{ask("get", "", "secrets", "", "other", "volume"), false},
		{ask("get", "", "secrets", "", "ns", "theirs"), false},
		{ask("get", "", "secrets", "", "ns", "waiting"), false},
		{ask("list", "", "secrets", "", "ns", ""), false},
		{ask("update", "", "secrets", "", "ns", "volume"), false},
		{ask("get", "", "configmaps", "", "ns", "env"), true},
		{ask("get", "", "configmaps", "", "ns", "projected"), true},
		{ask("get", "", "configmaps", "", "ns", "volume"), false},
		{ask("get", "", "persistentvolumeclaims", "", "ns", "data"), true},
		{ask("get", "", "persistentvolumeclaims", "", "ns", "p1-e"), true},
		{ask("patch", "", "persistentvolumeclaims", "status", "ns", "data"), true},
		{ask("patch", "", "persistentvolumeclaims", "", "ns", "data"), false},
		{ask("get", "", "persistentvolumes", "", "", "pv"), true},
		{ask("get", "", "persistentvolumes", "", "", "free"), false},
		{ask("get", "resource.k8s.io", "resourceclaims", "", "ns", "gpu"), true},
		{ask("get", "storage.k8s.io", "volumeattachments", "", "", "va1"), true},
		{ask("get", "storage.k8s.io", "volumeattachments", "", "", "va2"), false},
		{ask("create", "", "serviceaccounts", "token", "ns", "bot"), true},
		{ask("create", "", "serviceaccounts", "token", "ns", "other"), false},
		{ask("get", "", "serviceaccounts", "", "ns", "bot"), true},
		{ask("create", "", "serviceaccounts", "", "ns", "bot"), false},
		{ask("update", "coordination.k8s.io", "leases", "", "kube-node-lease", "n1"), true},
		{ask("update", "coordination.k8s.io", "leases", "", "kube-node-lease", "n2"), false},
		{ask("get", "coordination.k8s.io", "leases", "", "kube-system", "n1"), false},
		{ask("create", "coordination.k8s.io", "leases", "", "kube-node-lease", ""), true},
		{ask("patch", "storage.k8s.io", "csinodes", "", "", "n1"), true},
		{ask("patch", "storage.k8s.io", "csinodes", "", "", "n2"), false},
		{ask("delete", "resource.k8s.io", "resourceslices", "", "", "slice1"), true},
		{ask("list", "resource.k8s.io", "resourceslices", "", "", "", mine...), true},
		{ask("list", "resource.k8s.io", "resourceslices", "", "", ""), false},
		{ask("get", "", "nodes", "", "", "n1"), true},
		{ask("get", "", "nodes", "", "", "n2"), false},
		{ask("list", "", "nodes", "", "", ""), false},
		{ask("patch", "", "nodes", "status", "", "n1"), true},
		{ask("delete", "", "nodes", "", "", "n1"), false},
		{ask("list", "", "pods", "", "", "", mine...), true},
		{ask("list", "", "pods", "", "", ""), false},
		{ask("get", "", "pods", "", "ns", "p1"), true},
		{ask("get", "", "pods", "", "ns", "p2"), false},
		{ask("patch", "", "pods", "status", "ns", "p1"), true},
		{ask("create", "", "pods", "eviction", "ns", "p1"), true},
		{ask("create", "", "pods", "exec", "ns", "p1"), false},
		{ask("create", "", "events", "", "ns", ""), true},
		{ask("list", "", "events", "", "ns", ""), false},
	} {
		decision, reason, err := z.Authorize(t.Context(), c.a)
		if err != nil || (decision == authz.Allow) != c.want {
			t.Errorf("%s %s/%s %s/%s: %v (%s), %v, want %v", c.a.Verb, c.a.Resource, c.a.Subresource, c.a.Namespace, c.a.Name, decision, reason, err, c.want)
		}
	}
}

func TestOthersAreNoNodes(t *testing.T) {
	z := node.New(admissiontest.NewReader(cluster()...), nil)
	for _, u := range []request.User{{Name: "jane"}, {Name: "system:node:n1"}, {Name: "jane", Groups: []string{request.GroupNodes}}, {Name: "system:node:", Groups: []string{request.GroupNodes}}} {
		a := &authz.Attributes{User: u, ResourceRequest: true, Verb: "get", Resource: "secrets", Namespace: "ns", Name: "volume"}
		if decision, _, _ := z.Authorize(t.Context(), a); decision != authz.NoOpinion {
			t.Errorf("%+v is allowed", u)
		}
	}
}

func TestABindingNewerThanTheCache(t *testing.T) {
	reader := admissiontest.NewReader(pod("p", "", corev1.PodSpec{}))
	reader.PutFresh(pod("p", "n1", corev1.PodSpec{}))
	a := &authz.Attributes{
		User: request.User{Name: "system:node:n1", Groups: []string{request.GroupNodes}}, ResourceRequest: true, Verb: "get", Resource: "pods", Namespace: "ns", Name: "p",
	}
	if decision, reason, _ := node.New(reader, nil).Authorize(t.Context(), a); decision != authz.Allow {
		t.Errorf("a pod that was just bound: %v, %s", decision, reason)
	}
}
