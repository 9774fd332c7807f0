// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/etcd"
	"kogge.dev/kogge/testcluster"
)

const (
	keyA = "{name: a, secret: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=}"
	keyB = "{name: b, secret: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=}"
)

func encryptionFile(providers string) string {
	return "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets, '*.example.org']\n  providers: [" + providers + "]\n"
}

// TestSecretsAreEncryptedInEtcd runs a control plane over a real etcd, turns encryption on, rotates the key while it runs, and looks at the
// bytes of the data folder.
func TestSecretsAreEncryptedInEtcd(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "encryption.yaml")
	under, err := etcd.Open(t.Context(), etcd.Config{DataDir: dir, UnsafeNoFsync: true, Tick: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	t.Cleanup(func() {
		if !closed {
			_ = under.Close()
		}
	})
	write := func(providers string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path+".new", []byte(encryptionFile(providers)), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	const marker = "a text that nobody else may read"
	const at = "/registry/secrets/default/mine"
	raw := func() string {
		t.Helper()
		r, _, err := under.Get(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		return string(r.Value)
	}
	write("{aescbc: {keys: [" + keyA + "]}}, {identity: {}}")
	// The control plane ends before the store is closed and its files are read.
	t.Run("cluster", func(t *testing.T) {
		secret, err := openEncryption(EncryptionSettings{ConfigFile: path}, under, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- secret.run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		c := testcluster.New(t, testcluster.Config{Store: secret.store, Without: control.Components{Controllers: true, Scheduler: true, Cloud: true}})
		secrets := client.Of[*corev1.Secret](c.Admin())
		made, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "mine"}, StringData: map[string]string{"k": marker}})
		if err != nil {
			t.Fatal(err)
		}
		if got := raw(); !strings.HasPrefix(got, "k8s:enc:aescbc:v1:a:") {
			t.Errorf("stored: %.40q", got)
		}
		write("{secretbox: {keys: [" + keyB + "]}}, {aescbc: {keys: [" + keyA + "]}}, {identity: {}}")
		// An update that changes nothing rewrites the value once the new key is in force, and not again after.
		for deadline := time.Now().Add(20 * time.Second); !strings.HasPrefix(raw(), "k8s:enc:secretbox:v1:b:"); {
			if time.Now().After(deadline) {
				t.Fatalf("the value is not rewritten under the new key: %.40q", raw())
			}
			if made, err = secrets.Update(t.Context(), made); err != nil {
				t.Fatal(err)
			}
			<-time.After(20 * time.Millisecond)
		}
		again, err := secrets.Update(t.Context(), made)
		if err != nil || again.ResourceVersion != made.ResourceVersion {
			t.Errorf("an update that changes nothing: %v, revision %s after %s", err, again.ResourceVersion, made.ResourceVersion)
		}
		got, err := secrets.Get(t.Context(), "default", "mine")
		if err != nil || string(got.Data["k"]) != marker {
			t.Errorf("Get = %q, %v", got.Data, err)
		}
		if err := secret.checks[0].Probe(t.Context()); err != nil {
			t.Errorf("health without plugins: %v", err)
		}
	})
	closed = true
	if err := under.Close(); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(marker)) {
			t.Errorf("%s holds the secret", path)
		}
		if bytes.Contains(data, []byte(at)) {
			seen++
		}
		return err
	})
	if err != nil || seen == 0 {
		t.Errorf("no file of etcd holds the key of the secret: %v", err)
	}
}

func TestResourceOf(t *testing.T) {
	of := control.ResourceOf()
	for key, want := range map[string]string{
		"/registry/secrets/default/a": "secrets", "/registry/services/specs/default/a": "services", "/registry/services/endpoints/default/a": "endpoints",
		"/registry/minions/a": "nodes", "/registry/events/default/a": "events", "/registry/ingress/default/a": "ingresses.networking.k8s.io",
		"/registry/deployments/default/a": "deployments.apps", "/registry/leasecandidates/default/a": "leasecandidates.coordination.k8s.io", "/registry/apiextensions.k8s.io/customresourcedefinitions/a.b": "customresourcedefinitions.apiextensions.k8s.io",
		"/registry/example.org/things/default/a": "things.example.org", "/registry/ranges/serviceips": "serviceipallocations", "/registry/masterleases/192.0.2.1": "apiserveripinfo",
	} {
		if got := of(key).String(); got != want {
			t.Errorf("ResourceOf(%s) = %s, want %s", key, got, want)
		}
	}
}

func TestEncryptionFileIsChecked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "encryption.yaml")
	if err := os.WriteFile(path, []byte(encryptionFile("{aescbc: {keys: []}}")), 0o600); err != nil {
		t.Fatal(err)
	}
	var under store.Store
	_, err := openEncryption(EncryptionSettings{ConfigFile: path}, under, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "api.encryption.configFile: "+path+": resources[0].providers[0].aescbc.keys: Required value: at least one keys is required") {
		t.Errorf("error = %v", err)
	}
}
