// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cri/fake"
	"kogge.dev/kogge/internal/need"
	"kogge.dev/kogge/kubelet"
	"kogge.dev/kogge/testcluster"
)

type recorded struct{ t *testing.T }

func (r recorded) Event(obj runtime.Object, kind, reason, message string) {
	ref := obj.(*corev1.ObjectReference)
	r.t.Logf("event %s %s%s: %s %s: %s", ref.Kind, ref.Name, ref.FieldPath, kind, reason, message)
}

// node runs a kubelet of a test cluster on a fake runtime until the test ends. It returns its root folder.
func node(t *testing.T, cluster *testcluster.Cluster, cri *fake.Runtime) (root string) {
	t.Helper()
	need.Root(t, "volumes are mounted")
	dir := shortDir(t)
	no := false
	k, err := kubelet.New(kubelet.Config{
		NodeName: "n1", NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Runtime: cri.CRI(), Client: cluster.As("system:node:n1", "system:nodes"),
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})), Recorder: recorded{t},
		Root: filepath.Join(dir, "kubelet"), PodLogs: filepath.Join(dir, "pods"), ContainerLogs: filepath.Join(dir, "containers"),
		Settings: kubeletconfig.KubeletConfiguration{StaticPodPath: filepath.Join(dir, "manifests"), CgroupsPerQOS: &no, ClusterDNS: []string{"10.96.0.10"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return filepath.Join(dir, "kubelet")
}

// shortDir is a temporary folder whose name leaves room for sockets below it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "k") //nolint:usetesting // t.TempDir's name is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func parse[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatal(err)
	}
	return out
}

const apiPod = `
metadata: {name: web, namespace: default}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: i, image: example.org/app:1}
  containers:
  - name: c
    image: example.org/app:1
    envFrom: [{configMapRef: {name: cm}}]
    env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
    volumeMounts:
    - {name: cm, mountPath: /cm}
    - {name: secret, mountPath: /secret}
  volumes:
  - {name: cm, configMap: {name: cm}}
  - {name: secret, secret: {secretName: s}}
`

func TestPodOfTheAPIRunsAndIsDeleted(t *testing.T) {
	cluster := testcluster.New(t)
	cri := fake.New(fake.Config{}, "example.org/app:1")
	root := node(t, cluster, cri)
	admin := cluster.Admin()
	ctx := t.Context()
	pods := client.Of[*corev1.Pod](admin)

	eventually(t, "node is ready", func() bool {
		n, err := client.Of[*corev1.Node](admin).Get(ctx, "", "n1")
		if err != nil {
			return false
		}
		return slices.Contains(n.Status.DeclaredFeatures, "RestartAllContainersOnContainerExits") && slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
	})
	eventually(t, "default service account", func() bool {
		_, err := client.Of[*corev1.ServiceAccount](admin).Get(ctx, "default", "default")
		return err == nil
	})
	p := parse[corev1.Pod](t, apiPod)
	if _, err := pods.Create(ctx, p); err != nil {
		t.Fatal(err)
	}
	// The config map comes late: the pod waits for it and goes on by itself.
	if _, err := client.Of[*corev1.Secret](admin).Create(ctx, parse[corev1.Secret](t, "{metadata: {name: s, namespace: default}, stringData: {k: v}}")); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Of[*corev1.ConfigMap](admin).Create(ctx, parse[corev1.ConfigMap](t, "{metadata: {name: cm, namespace: default}, data: {k: v1}}")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "init container runs", func() bool { return len(cri.Find("web", "i")) == 1 })
	if err := cri.Exit(cri.Find("web", "i")[0], 0); err != nil {
		t.Fatal(err)
	}
	var live *corev1.Pod
	ready := func() bool {
		var err error
		if live, err = pods.Get(ctx, "default", "web"); err != nil {
			t.Fatal(err)
		}
		for _, c := range live.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return true
			}
		}
		return false
	}
	eventually(t, "pod is ready", ready)
	// As the node lifecycle controller says while it does not hear of the node.
	unready := []byte(`{"status":{"conditions":[{"type":"Ready","status":"False"}]}}`)
	if _, err := pods.Patch(ctx, "default", "web", types.StrategicMergePatchType, unready, "status"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pod is ready again", ready)
	if live.Status.PodIP == "" || live.Status.Phase != corev1.PodRunning || live.Status.ContainerStatuses[0].State.Running == nil {
		t.Errorf("status = %+v", live.Status)
	}
	base := filepath.Join(root, "pods", string(live.UID), "volumes")
	tokens, err := filepath.Glob(filepath.Join(base, "kubernetes.io~projected", "*", "token"))
	if err != nil || len(tokens) != 1 {
		t.Errorf("projected tokens = %v, %v, want one", tokens, err)
	}
	cm := filepath.Join(base, "kubernetes.io~configmap", "cm", "k")
	if _, err := client.Of[*corev1.ConfigMap](admin).Update(ctx, parse[corev1.ConfigMap](t, "{metadata: {name: cm, namespace: default}, data: {k: v2}}")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "config map volume follows", func() bool { data, err := os.ReadFile(cm); return err == nil && string(data) == "v2" })

	if err := pods.Delete(ctx, "default", "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pod is gone", func() bool {
		_, err := pods.Get(ctx, "default", "web")
		return apierrors.IsNotFound(err)
	})
	eventually(t, "its folder is gone", func() bool {
		_, err := os.Stat(filepath.Join(root, "pods", string(live.UID)))
		return os.IsNotExist(err)
	})
}
