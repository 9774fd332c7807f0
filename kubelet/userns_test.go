// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/client"
	criFake "kogge.dev/kogge/cri/fake"
	"kogge.dev/kogge/testcluster"
)

func usersPod(name string) string {
	return `
metadata: {name: ` + name + `, namespace: default}
spec:
  nodeName: n1
  hostUsers: false
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  containers: [{name: c, image: example.org/app:1, volumeMounts: [{name: scratch, mountPath: /scratch}]}]
  volumes: [{name: scratch, emptyDir: {}}]
`
}

// TestUserNamespaces gives two pods ranges of ids that are apart, in sandbox, container and mounts.
func TestUserNamespaces(t *testing.T) {
	cluster := testcluster.New(t)
	cri := criFake.New(criFake.Config{}, "example.org/app:1")
	node(t, cluster, cri)
	admin, ctx := cluster.Admin(), t.Context()
	testcluster.Await(t, admin, "", patience, func(all []*corev1.Node) bool {
		return len(all) == 1 && len(all[0].Status.RuntimeHandlers) > 0 && *all[0].Status.RuntimeHandlers[0].Features.UserNamespaces
	})
	testcluster.Await(t, admin, "default", patience, func(all []*corev1.ServiceAccount) bool { return len(all) > 0 })
	seen := map[uint32]string{}
	for _, name := range []string{"a", "b"} {
		if _, err := client.Of[*corev1.Pod](admin).Create(ctx, parse[corev1.Pod](t, usersPod(name))); err != nil {
			t.Fatal(err)
		}
		eventually(t, "container runs", func() bool { return len(cri.Find(name, "c")) == 1 })
		config := cri.Created(cri.Find(name, "c")[0])
		users := config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetUsernsOptions()
		if users.GetMode() != runtimeapi.NamespaceMode_POD || len(users.GetUids()) != 1 {
			t.Fatalf("user namespace of %s: %v", name, users)
		}
		for _, m := range config.GetMounts() {
			if len(m.GetUidMappings()) != 1 || m.GetUidMappings()[0].GetHostId() != users.GetUids()[0].GetHostId() {
				t.Errorf("mount %s of %s: ids %v", m.GetContainerPath(), name, m.GetUidMappings())
			}
		}
		begin := users.GetUids()[0].GetHostId()
		if other := seen[begin]; other != "" {
			t.Errorf("%s and %s have the same ids", name, other)
		}
		seen[begin] = name
	}
	if err := client.Of[*corev1.Pod](admin).Delete(ctx, "default", "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, admin, "default", patience, func(all []*corev1.Pod) bool { return len(all) == 1 })
}
