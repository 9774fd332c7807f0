// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package devices_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/kubelet/devices"
	"kogge.dev/kogge/kubelet/devices/fake"
)

// start runs the devices of a kubelet until the returned function is called. Resized has a token whenever there was a change.
func start(t *testing.T, root string) (d *devices.Devices, resized chan struct{}, stop func()) {
	t.Helper()
	resized = make(chan struct{}, 1)
	d = devices.New(devices.Config{
		Root: root, Logger: slog.New(slog.DiscardHandler), Changed: func([]types.UID) {},
		Resized: func() {
			select {
			case resized <- struct{}{}:
			default:
			}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	if err := d.Load(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return d, resized, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Limits: corev1.ResourceList{"example.com/dev": resource.MustParse("1")},
		}}}},
	}
}

// TestGrantsOutliveTheKubelet restarts the kubelet: the pod keeps its device though the plugin is not back, and no other pod gets
// one meanwhile.
func TestGrantsOutliveTheKubelet(t *testing.T) {
	root, err := os.MkdirTemp("", "k") //nolint:usetesting // t.TempDir's name is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) }) //nolint:errcheck // best effort
	dir := filepath.Join(root, "device-plugins")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	d, resized, stop := start(t, root)
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) { // a plugin finds the socket by looking
		if _, err := os.Stat(filepath.Join(dir, "kubelet.sock")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no registration socket")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- fake.NewPlugin("example.com/dev", dir, "dev.sock", "d1", "d2").Run(ctx) }()
	select {
	case <-resized:
	case <-time.After(5 * time.Second):
		t.Fatal("no devices")
	}
	a := pod("a")
	if err := d.Allocate(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("plugin: %v", err)
	}
	stop()

	d, _, stop = start(t, root)
	defer stop()
	if got := d.Given(a.UID, "c")["example.com/dev"]; len(got) != 1 || got[0].GetID() != "d2" {
		t.Errorf("devices after a restart: %v, want d2", got)
	}
	if err := d.Allocate(t.Context(), a); err != nil {
		t.Errorf("Allocate for a pod that has its devices = %v", err)
	}
	needs, err := d.Start(t.Context(), a.UID, "c")
	if err != nil || needs.GetEnvs()["DEVICES"] != "[d2]" {
		t.Errorf("Start = %v, %v", needs, err)
	}
	all, usable := d.Capacity()
	if q, u := all["example.com/dev"], usable["example.com/dev"]; !q.IsZero() || !u.IsZero() {
		t.Errorf("capacity without the plugin: %v, usable %v", q, u)
	}
	if err := d.Allocate(t.Context(), pod("b")); !errors.Is(err, devices.ErrUnavailable) {
		t.Errorf("Allocate for another pod = %v", err)
	}
	if err := d.Free(a.UID); err != nil || len(d.Pods()) != 0 {
		t.Errorf("after Free: %v, %v", d.Pods(), err)
	}
}
