// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package encryption

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	kmsapi "k8s.io/kms/apis/v2"

	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/memory"
)

// vault is a KMS plugin at a socket. Its keys are bytes that it adds to what it wraps.
type vault struct {
	kmsapi.UnimplementedKeyManagementServiceServer

	socket string

	mu sync.Mutex
	// key names the key in use: its first letter is the key.
	key string
	// sick is what Status says instead of ok, and fails all else.
	sick string
	// deaf is how many calls of Decrypt are not answered from now on; mute leaves Status without an answer, too.
	deaf int
	mute bool
	// unwrapped counts calls of Decrypt.
	unwrapped int
}

func newVault(t testing.TB, key string) *vault {
	t.Helper()
	v := &vault{socket: filepath.Join(t.TempDir(), "kms.sock"), key: key}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", v.socket)
	must(t, err)
	server := grpc.NewServer()
	kmsapi.RegisterKeyManagementServiceServer(server, v)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return v
}

func (v *vault) set(key, sick string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.key, v.sick = key, sick
}

func (v *vault) calls() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.unwrapped
}

func add(to []byte, key string) []byte {
	out := make([]byte, len(to))
	for i, b := range to {
		out[i] = b ^ key[0]
	}
	return out
}

func (v *vault) Status(ctx context.Context, _ *kmsapi.StatusRequest) (*kmsapi.StatusResponse, error) {
	v.mu.Lock()
	mute := v.mute
	v.mu.Unlock()
	if mute {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	health := "ok"
	if v.sick != "" {
		health = v.sick
	}
	return &kmsapi.StatusResponse{Version: "v2", Healthz: health, KeyId: v.key}, nil
}

func (v *vault) Encrypt(_ context.Context, r *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.sick != "" {
		return nil, errors.New(v.sick)
	}
	return &kmsapi.EncryptResponse{Ciphertext: add(r.GetPlaintext(), v.key), KeyId: v.key, Annotations: map[string][]byte{"a.example.org": []byte("b")}}, nil
}

func (v *vault) Decrypt(ctx context.Context, r *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	v.mu.Lock()
	v.unwrapped++
	deaf := v.deaf > 0
	if deaf {
		v.deaf--
	}
	v.mu.Unlock()
	if deaf {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.sick != "":
		return nil, errors.New(v.sick)
	case string(r.GetAnnotations()["a.example.org"]) != "b":
		return nil, errors.New("the annotations are lost")
	}
	return &kmsapi.DecryptResponse{Plaintext: add(r.GetCiphertext(), r.GetKeyId())}, nil
}

func (v *vault) miss(calls int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.deaf = calls
}

func (v *vault) provider(name string) string {
	return fmt.Sprintf("{kms: {apiVersion: v2, name: %s, endpoint: 'unix://%s'}}", name, v.socket)
}

// hasty is provider with a short timeout.
func (v *vault) hasty(name string) string {
	return fmt.Sprintf("{kms: {apiVersion: v2, name: %s, endpoint: 'unix://%s', timeout: 300ms}}", name, v.socket)
}

// forget lets the plugins of a bed be asked again at once.
func (b *bed) forget() {
	for _, p := range b.current.Load().plugins {
		p.mu.Lock()
		p.asked = time.Now().Add(-healthFresh)
		p.mu.Unlock()
	}
}

func TestKMS(t *testing.T) {
	const at = "/registry/secrets/default/a"
	v := newVault(t, "one")
	under := memory.New()
	s := newBed(t, under, entry("secrets", v.provider("vault"), plainly))
	ctx := t.Context()
	v.set("one", "sealed")
	if _, err := s.Create(ctx, at, []byte("value"), store.WriteOptions{}); err == nil || !strings.Contains(err.Error(), "no key to encrypt with: KMS plugin vault: says of its health: sealed") {
		t.Errorf("a write while the plugin is sealed: %v", err)
	}
	v.set("one", "")
	s.forget()
	// The first write need not wait for somebody else to ask.
	rev, err := s.Create(ctx, at, []byte("value"), store.WriteOptions{})
	must(t, err)
	s.run(t)
	if raw := s.raw(t, at); !strings.HasPrefix(raw, "k8s:enc:kms:v2:vault:") || strings.Contains(raw, "value") {
		t.Errorf("stored: %q", raw)
	}
	s.wants(t, at, "value", false)
	if n := v.calls(); n != 0 {
		t.Errorf("the plugin unwrapped %d secrets that were made here", n)
	}
	// Another process asks the plugin, once.
	other := newBed(t, under, entry("secrets", v.provider("vault")))
	other.run(t)
	must(t, other.Check(ctx))
	for range 3 {
		other.wants(t, at, "value", false)
	}
	if n := v.calls(); n != 1 {
		t.Errorf("the plugin unwrapped %d times for one secret", n)
	}
	v.set("two", "")
	s.forget()
	must(t, s.Check(ctx))
	s.wants(t, at, "value", true)
	rev, err = s.Update(ctx, at, []byte("value"), rev, store.WriteOptions{})
	must(t, err)
	s.wants(t, at, "value", false)
	v.set("two", "sealed")
	s.forget()
	if err := s.Check(ctx); err == nil || !strings.Contains(err.Error(), "says of its health: sealed") {
		t.Errorf("health of a plugin that is sealed: %v", err)
	}
	// Known secrets go on, for three minutes.
	rev, err = s.Update(ctx, at, []byte("more"), rev, store.WriteOptions{})
	must(t, err)
	s.wants(t, at, "more", false)
	p := s.current.Load().plugins[0]
	p.mu.Lock()
	p.current.until = time.Now().Add(-time.Second)
	p.mu.Unlock()
	if _, err := s.Update(ctx, at, []byte("last"), rev, store.WriteOptions{}); !errors.Is(err, errUnreached) {
		t.Errorf("a write without a plugin: %v", err)
	}
	s.wants(t, at, "more", false)
}

// TestKMSComesBack follows a value that only a plugin can open which is away at first.
func TestKMSComesBack(t *testing.T) {
	const at = "/registry/secrets/default/a"
	v := newVault(t, "one")
	under := memory.New()
	first := newBed(t, under, entry("secrets", v.provider("vault")))
	first.run(t)
	must(t, first.Check(t.Context()))
	_, err := first.Create(t.Context(), at, []byte("value"), store.WriteOptions{})
	must(t, err)
	v.set("one", "sealed")
	s := newBed(t, under, entry("secrets", v.provider("vault")))
	s.run(t)
	page, err := s.List(t.Context(), store.ListOptions{Prefix: "/registry/"})
	must(t, err)
	if !strings.HasPrefix(string(page.Records[0].Value), "k8s:enc:") {
		t.Fatalf("List = %v, want the value as it is stored", page.Records)
	}
	if s.Check(t.Context()) == nil {
		t.Fatal("a plugin that is sealed works")
	}
	s.mu.Lock()
	again := s.again
	s.mu.Unlock()
	v.set("one", "")
	s.forget()
	must(t, s.Check(t.Context()))
	<-again
	s.wants(t, at, "value", false)
	// No watch ran to be ended: the first that comes is.
	if err := s.Watch(t.Context(), "/registry/", 0, func(store.Batch) error { return errors.New("delivered") }); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("the first watch: %v, want %v", err, store.ErrCompacted)
	}
	if err := s.Watch(t.Context(), "/registry/", 0, func(store.Batch) error { return errors.New("delivered") }); err == nil || err.Error() != "delivered" {
		t.Errorf("the second watch: %v, want what its function said", err)
	}
}

// encrypted returns a store in which another server has put a value at a key, under a secret of the plugin.
func (v *vault) encrypted(t testing.TB, key string) *memory.Store {
	t.Helper()
	under := memory.New()
	b := newBed(t, under, entry("secrets", v.provider("vault")))
	must(t, b.Check(t.Context()))
	_, err := b.Create(t.Context(), key, []byte("value"), store.WriteOptions{})
	must(t, err)
	return under
}

// TestKMSMissesOneCall follows a value whose secret is not unwrapped in time, although the plugin says all the while that it is well.
func TestKMSMissesOneCall(t *testing.T) {
	const at = "/registry/secrets/default/a"
	v := newVault(t, "one")
	under := v.encrypted(t, at)
	s := newBed(t, under, entry("secrets", v.hasty("vault")))
	must(t, s.Check(t.Context()))
	p := s.current.Load().plugins[0]
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Get(gone, at); err == nil || len(p.wake) > 0 {
		t.Errorf("Get of somebody who went away = %v, and wakes %d", err, len(p.wake))
	}
	s.mu.Lock()
	again := s.again
	s.mu.Unlock()
	s.run(t)
	v.miss(1)
	page, err := s.List(t.Context(), store.ListOptions{Prefix: "/registry/"})
	must(t, err)
	if string(page.Records[0].Value) == "value" {
		return // It was told already, and has read again.
	}
	select {
	case <-again:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody is told to read again")
	}
	s.wants(t, at, "value", false)
}

// TestKMSUnwrapsOnce reads one value from many sides at once, one of which goes away.
func TestKMSUnwrapsOnce(t *testing.T) {
	const at = "/registry/secrets/default/a"
	v := newVault(t, "one")
	under := v.encrypted(t, at)
	s := newBed(t, under, entry("secrets", v.provider("vault")))
	v.mu.Lock() // Nothing is answered yet.
	gone, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			if _, _, err := s.Get(t.Context(), at); err != nil {
				t.Error(err)
			}
		})
	}
	if _, _, err := s.Get(gone, at); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get of somebody who goes away = %v, want %v", err, context.DeadlineExceeded)
	}
	v.mu.Unlock()
	readers.Wait()
	if n := v.calls(); n != 1 {
		t.Errorf("the plugin unwrapped %d times for one secret", n)
	}
}

// storedEnvelope is the message that upstream made of "the plain value" at /registry/secrets/default/a with a seed of 32 sevens.
const storedEnvelope = "0a4b12c03abfc53041ab2837a73b578b1c9e7e510d2486fd8f9bdb4398b281af70180a5980fee4126af26f143d6279ca411db0485bc88a31091516f3c23399a078796944a8d9303f409e63d44812036f6e651a20686868686868686868686868686868686868686868686868686868686868686822120a0d612e6578616d706c652e6f72671201622801"

func TestEnvelopeOfUpstream(t *testing.T) {
	v := newVault(t, "one")
	s := newBed(t, memory.New(), entry("secrets", v.provider("vault")))
	stored, err := hex.DecodeString(storedEnvelope)
	must(t, err)
	const at = "/registry/secrets/default/a"
	_, err = s.under.Create(t.Context(), at, append([]byte("k8s:enc:kms:v2:vault:"), stored...), store.WriteOptions{})
	must(t, err)
	s.wants(t, at, "the plain value", false)
	e, err := decodeEnvelope(stored)
	must(t, err)
	// The vault returns as many bytes as it is shown.
	for _, c := range []struct {
		kind uint64
		want string
	}{{sourceSeed, "a seed of 31 bytes is shorter than 32"}, {sourceKey, "invalid key size 31"}} {
		short := *e
		short.source, short.sourceType = e.source[:31], c.kind
		_, _, err = s.current.Load().plugins[0].open(t.Context(), at, short.encode())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("a secret that is too short: %v, want %q", err, c.want)
		}
	}
	if got := hex.EncodeToString(e.encode()); got != storedEnvelope {
		t.Errorf("encoded again: %s, want %s", got, storedEnvelope)
	}
}
