// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package encryption

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/memory"
	"kogge.dev/kogge/store/storetest"
)

const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"

// key is a configured key whose bytes are all the same.
func key(name string, b byte, size int) string {
	return fmt.Sprintf("{name: %s, secret: %s}", name, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, size)))
}

// entry configures resources with providers, the first of which writes.
func entry(resources string, providers ...string) string {
	return "- resources: [" + resources + "]\n  providers: [" + strings.Join(providers, ", ") + "]\n"
}

func provider(kind string, keys ...string) string {
	return "{" + kind + ": {keys: [" + strings.Join(keys, ", ") + "]}}"
}

const plainly = "{identity: {}}"

// byFolder takes the first part of a key below /registry for the resource.
func byFolder(key string) schema.GroupResource {
	name, _, _ := strings.Cut(strings.TrimPrefix(key, "/registry/"), "/")
	return schema.ParseGroupResource(name)
}

// bed is a store under an encrypting one.
type bed struct {
	*Store

	under *memory.Store
	path  string
}

func newBed(t testing.TB, under *memory.Store, file string) *bed {
	t.Helper()
	b := &bed{under: under, path: filepath.Join(t.TempDir(), "encryption.yaml")}
	b.write(t, file)
	var err error
	if b.Store, err = Open(Config{Path: b.path, Under: under, Resource: byFolder, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bed) write(t testing.TB, file string) {
	t.Helper()
	if err := os.WriteFile(b.path+".new", []byte(head+file), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b.path+".new", b.path); err != nil {
		t.Fatal(err)
	}
}

// run runs the store until the test ends.
func (b *bed) run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// raw is what the store below holds.
func (b *bed) raw(t testing.TB, key string) string {
	t.Helper()
	r, _, err := b.under.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(r.Value)
}

func (b *bed) wants(t testing.TB, key, value string, stale bool) {
	t.Helper()
	r, _, err := b.Get(t.Context(), key)
	if err != nil || string(r.Value) != value {
		t.Errorf("Get(%s) = %q, %v, want %q", key, r.Value, err, value)
	}
	if got, err := b.Stale(t.Context(), key); got != stale || err != nil {
		t.Errorf("Stale(%s) = %v, %v, want %v", key, got, err, stale)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestConformance runs the suite of stores over every way to encrypt.
func TestConformance(t *testing.T) {
	for name, p := range map[string]string{
		"aescbc": provider("aescbc", key("a", 1, 32)), "aesgcm": provider("aesgcm", key("a", 1, 16)), "secretbox": provider("secretbox", key("a", 1, 32)), "identity": plainly,
	} {
		t.Run(name, func(t *testing.T) {
			open := func(t *testing.T) store.Store { return newBed(t, memory.New(), entry("'*.*'", p)).Store }
			storetest.Suite{Open: open, Bubble: true}.Run(t)
		})
	}
}

// TestFormats reads values that upstream's transformers of v1.36.3 wrote.
func TestFormats(t *testing.T) {
	const at = "/registry/secrets/default/a"
	for _, c := range []struct{ name, provider, stored string }{
		{"aescbc", provider("aescbc", key("k", 7, 32)), storedCBC},
		{"aesgcm", provider("aesgcm", key("k", 7, 32)), storedGCM},
		{"secretbox", provider("secretbox", key("k", 7, 32)), storedSecretbox},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, memory.New(), entry("secrets", c.provider))
			stored, err := hex.DecodeString(c.stored)
			must(t, err)
			stored = append([]byte("k8s:enc:"+c.name+":v1:k:"), stored...)
			_, err = b.under.Create(t.Context(), at, stored, store.WriteOptions{})
			must(t, err)
			b.wants(t, at, "the plain value", false)
		})
	}
}

// What upstream made of "the plain value" at /registry/secrets/default/a, with a key of 32 sevens.
const (
	storedCBC       = "30554aa81bb8e760e7486d7b9d2684c022f66ae7168ebba4b13b45319f80b937"
	storedGCM       = "88d200213dae32ca491afbf63ae9c7195753604fd6d582202a3cb1c7e8760f811df2370056618e960a797f"
	storedSecretbox = "cd8412484289ab7f522a2df288f510c8f9925c1c5b7b161f787c8ab1a282ba5ab7a383192037e20782011b35a14521911bbd8fd74d6705"
)

func TestRotation(t *testing.T) {
	const at, other = "/registry/secrets/default/a", "/registry/configmaps/default/a"
	under := memory.New()
	ctx := t.Context()
	one := newBed(t, under, entry("secrets", plainly))
	rev, err := one.Create(ctx, at, []byte("first"), store.WriteOptions{})
	must(t, err)
	_, err = one.Create(ctx, other, []byte("open"), store.WriteOptions{})
	must(t, err)
	a, b, g := key("a", 1, 32), key("b", 2, 32), key("g", 3, 32)
	for _, step := range []struct{ prefix, file string }{
		{"k8s:enc:aescbc:v1:a:", entry("secrets", provider("aescbc", a), plainly)},
		{"k8s:enc:aescbc:v1:b:", entry("secrets", provider("aescbc", b, a), plainly)},
		{"k8s:enc:secretbox:v1:g:", entry("secrets", provider("secretbox", g), provider("aescbc", b))},
		{"k8s:enc:aesgcm:v1:a:", entry("secrets", provider("aesgcm", a), provider("secretbox", g))},
		{"first", entry("secrets", plainly, provider("aesgcm", a))},
	} {
		s := newBed(t, under, step.file)
		s.wants(t, at, "first", true)
		rev, err = s.Update(ctx, at, []byte("first"), rev, store.WriteOptions{})
		must(t, err)
		s.wants(t, at, "first", false)
		s.wants(t, other, "open", false)
		raw := s.raw(t, at)
		if !strings.HasPrefix(raw, step.prefix) || step.prefix != "first" && strings.Contains(raw, "first") {
			t.Errorf("stored under %s: %q", step.prefix, raw)
		}
	}
}

func TestResources(t *testing.T) {
	a := provider("secretbox", key("a", 1, 32))
	s := newBed(t, memory.New(), entry("events", plainly)+entry("secrets, '*.apps', things.example.org", a)+entry("'*.batch'", a))
	for resource, want := range map[string]bool{
		"secrets": true, "events": false, "pods": false, "deployments.apps": true, "jobs.batch": true, "things.example.org": true, "others.example.org": false,
	} {
		at := "/registry/" + resource + "/x"
		_, err := s.Create(t.Context(), at, []byte("value"), store.WriteOptions{})
		must(t, err)
		if got := strings.HasPrefix(s.raw(t, at), "k8s:enc:"); got != want {
			t.Errorf("%s is encrypted: %v, want %v", resource, got, want)
		}
	}
}

// TestMovedValue holds that AES-GCM binds a value to its key of the store.
func TestMovedValue(t *testing.T) {
	s := newBed(t, memory.New(), entry("secrets", provider("aesgcm", key("a", 1, 32))))
	_, err := s.Create(t.Context(), "/registry/secrets/a", []byte("value"), store.WriteOptions{})
	must(t, err)
	_, err = s.under.Create(t.Context(), "/registry/secrets/b", []byte(s.raw(t, "/registry/secrets/a")), store.WriteOptions{})
	must(t, err)
	if _, _, err := s.Get(t.Context(), "/registry/secrets/b"); !errors.Is(err, errTampered) {
		t.Errorf("a value that was moved: %v, want %v", err, errTampered)
	}
}

// TestLostKey follows a value whose key is not there, and comes.
func TestLostKey(t *testing.T) {
	const at = "/registry/secrets/a"
	under := memory.New()
	a, b := key("a", 1, 32), key("b", 2, 32)
	_, err := newBed(t, under, entry("secrets", provider("aescbc", a))).Create(t.Context(), at, []byte("value"), store.WriteOptions{})
	must(t, err)
	s := newBed(t, under, entry("secrets", provider("aescbc", b), plainly))
	s.run(t)
	if _, _, err := s.Get(t.Context(), at); !errors.Is(err, errNoKey) || !strings.Contains(err.Error(), at) {
		t.Errorf("Get = %v, want %v", err, errNoKey)
	}
	page, err := s.List(t.Context(), store.ListOptions{Prefix: "/registry/"})
	must(t, err)
	if len(page.Records) != 1 || !strings.HasPrefix(string(page.Records[0].Value), "k8s:enc:") {
		t.Errorf("List = %v, want the value as it is stored", page.Records)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- s.Watch(t.Context(), "/registry/", page.Revision, func(store.Batch) error { return nil })
	}()
	time.Sleep(50 * time.Millisecond) // The watch may begin late: then it begins after the change, and does not end for it.
	s.write(t, entry("secrets", provider("aescbc", b, a), plainly))
	select {
	case err := <-ended:
		if !errors.Is(err, store.ErrCompacted) {
			t.Errorf("Watch ended with %v, want %v", err, store.ErrCompacted)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the watch goes on although more can be read")
	}
	s.wants(t, at, "value", true)
}

// slowly fails to open, when it may.
type slowly struct {
	transformer

	begun, finish chan struct{}
}

func (s slowly) open(context.Context, string, []byte) ([]byte, bool, error) {
	s.begun <- struct{}{}
	<-s.finish
	return nil, false, errNoKey
}

// TestKeyComesMeanwhile lists a value while the key comes that it could not be read with at first.
func TestKeyComesMeanwhile(t *testing.T) {
	const at = "/registry/secrets/a"
	s := newBed(t, memory.New(), entry("secrets", provider("aescbc", key("a", 1, 32))))
	_, err := s.Create(t.Context(), at, []byte("value"), store.WriteOptions{})
	must(t, err)
	with := s.current.Load()
	slow := slowly{begun: make(chan struct{}), finish: make(chan struct{})}
	s.current.Store(&generation{table: table{{Resource: "secrets"}: {list: []prefixed{{prefix: []byte(prefixCBC), transformer: slow}}}}})
	listed := make(chan string, 1)
	go func() {
		page, err := s.List(t.Context(), store.ListOptions{Prefix: "/registry/"})
		if err != nil || len(page.Records) != 1 {
			listed <- fmt.Sprint(page, err)
			return
		}
		listed <- string(page.Records[0].Value)
	}()
	<-slow.begun
	s.current.Store(with)
	s.readAgain(false)
	close(slow.finish)
	if got := <-listed; got != "value" {
		t.Errorf("List = %q, want the value: nobody is told to read it again", got)
	}
}

func TestWrongFileLater(t *testing.T) {
	s := newBed(t, memory.New(), entry("secrets", provider("aescbc", key("a", 1, 32))))
	s.run(t)
	s.write(t, entry("secrets", provider("aescbc", key("a", 1, 31))))
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.Collectors()...)
	for deadline := time.Now().Add(20 * time.Second); ; {
		families, err := registry.Gather()
		must(t, err)
		if strings.Contains(fmt.Sprint(families), `name:"status" value:"failure"`) || strings.Contains(fmt.Sprint(families), `name:"status"  value:"failure"`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no failure is counted: %v", families)
		}
		time.Sleep(10 * time.Millisecond)
	}
	_, err := s.Create(t.Context(), "/registry/secrets/a", []byte("v"), store.WriteOptions{})
	must(t, err)
	s.wants(t, "/registry/secrets/a", "v", false)
}

// FuzzOpen feeds stored values to every decoder.
func FuzzOpen(f *testing.F) {
	s := newBed(f, memory.New(), entry("'*.*'", provider("aescbc", key("a", 1, 32)), provider("aesgcm", key("a", 1, 32)), provider("secretbox", key("a", 1, 32)), plainly))
	ctx := context.Background()
	for _, p := range []string{prefixCBC, prefixGCM, prefixSecretbox} {
		f.Add([]byte(p + "a:" + strings.Repeat("x", 64)))
		f.Add([]byte(p + "a:"))
		f.Add([]byte(p))
	}
	sealed, err := s.seal(ctx, "/registry/secrets/a", []byte("plain"))
	must(f, err)
	f.Add(sealed)
	f.Add((&envelope{data: []byte("d"), wrapped: wrapped{keyID: "k", source: []byte("s"), annotations: map[string][]byte{"a.b": []byte("v")}, sourceType: 1}}).encode())
	f.Fuzz(func(t *testing.T, stored []byte) {
		plain, _, err := s.open(ctx, "/registry/secrets/a", stored)
		if err == nil && bytes.HasPrefix(stored, []byte("k8s:enc:")) && bytes.Equal(plain, stored) {
			t.Errorf("%q was taken for plain", stored)
		}
		if e, err := decodeEnvelope(stored); err == nil {
			again, err := decodeEnvelope(e.encode())
			if err != nil || again.id() != e.id() || !bytes.Equal(again.data, e.data) {
				t.Errorf("%q: %v", stored, err)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(head + entry("secrets, '*.apps'", provider("aescbc", key("a", 1, 32)), plainly))
	f.Add(head + entry("secrets", "{kms: {apiVersion: v2, name: k, endpoint: 'unix:///x', timeout: 3s}}"))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parse([]byte(text))
		if err == nil && len(c.Resources) == 0 {
			t.Error("a file without resources is accepted")
		}
	})
}
