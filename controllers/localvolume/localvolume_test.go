// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package localvolume_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/localvolume/nodeside"
	"kogge.dev/kogge/rules/volumes"
	"kogge.dev/kogge/testcluster"
)

const limit = 10 * time.Second

// runNode runs the node's part as a node does, under the node's own identity.
func runNode(t *testing.T, cluster *testcluster.Cluster, name string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "volumes")
	log := slog.New(slog.DiscardHandler)
	informers := client.NewInformers(cluster.As("system:kube-proxy"), log)
	driver, err := nodeside.New(nodeside.Config{
		NodeName: name, Root: root, Informers: informers, Client: cluster.As("system:node:"+name, "system:nodes"), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- informers.Run(ctx) }()
	go func() { ended <- driver.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Errorf("node's part ended: %v", err)
			}
		}
	})
	return root
}

func claim(name string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
}

// TestFolderComesAndGoesWithItsClaim plays the scheduler's part.
func TestFolderComesAndGoesWithItsClaim(t *testing.T) {
	cluster := testcluster.New(t)
	c := cluster.Admin()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelHostname: "n1"}}}
	if _, err := client.Of[*corev1.Node](c).Create(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	root := runNode(t, cluster, "n1")
	testcluster.Await(t, c, "", limit, func(all []*corev1.Node) bool { return all[0].Annotations[nodeside.RootAnnotation] == root })
	claims := client.Of[*corev1.PersistentVolumeClaim](c)
	made, err := claims.Create(t.Context(), claim("data"))
	if err != nil {
		t.Fatal(err)
	}
	if made.Spec.StorageClassName == nil || *made.Spec.StorageClassName != "local" {
		t.Fatalf("class = %v, want the default one", made.Spec.StorageClassName)
	}
	selected := []byte(`{"metadata":{"annotations":{"` + volumes.SelectedNode + `":"n1"}}}`)
	if _, err := claims.Patch(t.Context(), "default", "data", types.MergePatchType, selected); err != nil {
		t.Fatal(err)
	}
	bound := testcluster.Await(t, c, "default", limit, func(all []*corev1.PersistentVolumeClaim) bool {
		return all[0].Status.Phase == corev1.ClaimBound
	})[0]
	pv, err := client.Of[*corev1.PersistentVolume](c).Get(t.Context(), "", bound.Spec.VolumeName)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "pvc-"+string(made.UID))
	if pv.Spec.Local == nil || pv.Spec.Local.Path != path {
		t.Fatalf("volume lies in %+v, want %s", pv.Spec.Local, path)
	}
	if got := pv.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values; len(got) != 1 || got[0] != "n1" {
		t.Errorf("volume's nodes = %v, want n1", got)
	}
	testcluster.Await(t, c, "", limit, func(all []*corev1.Node) bool { return nodeside.Holds(all[0], pv.Name) })
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o777 {
		t.Fatalf("folder: %v, %v", info, err)
	}
	if err := os.WriteFile(filepath.Join(path, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	bystander := filepath.Join(root, "pvc-of-somebody-else")
	if err := os.Mkdir(bystander, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := claims.Delete(t.Context(), "default", "data", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "", limit, func(all []*corev1.PersistentVolume) bool { return len(all) == 0 })
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("folder is still there: %v", err)
	}
	if _, err := os.Stat(bystander); err != nil {
		t.Errorf("a folder without a volume was touched: %v", err)
	}
}

// TestNodeWithoutFoldersIsRefused: the scheduler gets to choose again.
func TestNodeWithoutFoldersIsRefused(t *testing.T) {
	c := testcluster.New(t).Admin()
	if _, err := client.Of[*corev1.Node](c).Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}); err != nil {
		t.Fatal(err)
	}
	chosen := claim("data")
	chosen.Annotations = map[string]string{volumes.SelectedNode: "n1"}
	if _, err := client.Of[*corev1.PersistentVolumeClaim](c).Create(t.Context(), chosen); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", limit, func(all []*corev1.PersistentVolumeClaim) bool {
		return all[0].Annotations[volumes.Provisioner] == nodeside.Provisioner && all[0].Annotations[volumes.SelectedNode] == ""
	})
}

// TestClaimWaitsForANodeThatOffers has a claim that may lie anywhere wait for the only node to become ready.
func TestClaimWaitsForANodeThatOffers(t *testing.T) {
	c := testcluster.New(t).Admin()
	at, class := storagev1.VolumeBindingImmediate, "anywhere"
	if _, err := client.Of[*storagev1.StorageClass](c).Create(t.Context(), &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: class}, Provisioner: nodeside.Provisioner, VolumeBindingMode: &at,
	}); err != nil {
		t.Fatal(err)
	}
	nodes := client.Of[*corev1.Node](c)
	node, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Annotations: map[string]string{nodeside.RootAnnotation: "/volumes"}}})
	if err != nil {
		t.Fatal(err)
	}
	wanted := claim("data")
	wanted.Spec.StorageClassName = &class
	if _, err := client.Of[*corev1.PersistentVolumeClaim](c).Create(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", limit, func(all []*corev1.Event) bool {
		return slices.ContainsFunc(all, func(e *corev1.Event) bool {
			return e.Reason == "ProvisioningFailed" && strings.HasSuffix(e.Message, "no node offers local volumes")
		})
	})
	ready := node.DeepCopy()
	ready.ResourceVersion, ready.Status.Conditions = "", []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err := nodes.UpdateStatus(t.Context(), ready); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", limit, func(all []*corev1.PersistentVolumeClaim) bool { return all[0].Status.Phase == corev1.ClaimBound })
}
