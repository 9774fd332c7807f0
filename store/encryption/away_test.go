// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package encryption

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	kmsapi "k8s.io/kms/apis/v2"

	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/memory"
)

// shelf is a store of values under a secret each, and a plugin in the same bubble that has unwrapped none of them yet.
type shelf struct {
	*bed

	vault  *vault
	plugin *plugin
	// listen lets the plugin be reached until stop, which breaks the connections.
	listen, stop func()
}

func at(i int) string { return fmt.Sprintf("/registry/secrets/default/%04d", i) }

// newShelf is called in a bubble. Its store runs until the test ends.
func newShelf(t *testing.T, values int) *shelf {
	t.Helper()
	s := &shelf{vault: &vault{socket: "/nowhere", key: "one"}}
	s.bed = newBed(t, memory.New(), entry("secrets", s.vault.provider("vault")))
	g := s.current.Load()
	s.plugin = g.plugins[0]
	var (
		listener *bufconn.Listener
		server   *grpc.Server
	)
	s.stop = func() { server.Stop() }
	s.listen = func() {
		listener, server = bufconn.Listen(1<<16), grpc.NewServer()
		kmsapi.RegisterKeyManagementServiceServer(server, s.vault)
		go server.Serve(listener) //nolint:errcheck // ends by Stop
	}
	s.listen()
	s.plugin.dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return listener.DialContext(ctx) }
	for i := range values {
		seed := random(derivedSize, derivedSize)
		d, err := newDerived(seed)
		must(t, err)
		data, err := d.seal(t.Context(), at(i), []byte("value"))
		must(t, err)
		e := envelope{data: data, wrapped: wrapped{
			keyID: "one", source: add(seed, "one"), annotations: map[string][]byte{"a.example.org": []byte("b")}, sourceType: sourceSeed,
		}}
		_, err = s.under.Create(t.Context(), at(i), append([]byte("k8s:enc:kms:v2:vault:"), e.encode()...), store.WriteOptions{})
		must(t, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.launch(ctx, g)
	t.Cleanup(func() {
		cancel()
		s.running.Wait()
		s.stop()
	})
	must(t, s.Check(t.Context()))
	return s
}

func (s *shelf) hang(decrypt, status bool) {
	s.vault.mu.Lock()
	defer s.vault.mu.Unlock()
	s.vault.mute, s.vault.deaf = status, 0
	if decrypt {
		s.vault.deaf = 1 << 30
	}
}

// read reads a value and returns how long that took.
func (s *shelf) read(t *testing.T, i int) (time.Duration, error) {
	t.Helper()
	began := time.Now()
	_, _, err := s.Get(t.Context(), at(i))
	return time.Since(began), err
}

// list counts values that are listed as they should be, and tells how long that took.
func (s *shelf) list(t *testing.T) (good int, took time.Duration) {
	t.Helper()
	began := time.Now()
	page, err := s.List(t.Context(), store.ListOptions{Prefix: "/registry/"})
	must(t, err)
	for _, r := range page.Records {
		if string(r.Value) == "value" {
			good++
		}
	}
	return good, time.Since(began)
}

// timeoutOfPlugin is the default of the file.
const timeoutOfPlugin = 3 * time.Second

// TestKMSHangs has a plugin answer nothing for an hour: that costs one timeout, not one for each value or each try.
func TestKMSHangs(t *testing.T) {
	const values = 1000
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(t, values)
		s.hang(true, true)
		if good, took := s.list(t); good != 0 || took != timeoutOfPlugin {
			t.Errorf("a list had %d good values after %v, want none after %v", good, took, timeoutOfPlugin)
		}
		s.mu.Lock()
		again := s.again
		s.mu.Unlock()
		for end := time.Now().Add(time.Hour); time.Now().Before(end); time.Sleep(700 * time.Millisecond) {
			took, err := s.read(t, 7)
			if !errors.Is(err, errUnreached) || !unanswered(err) || !strings.Contains(err.Error(), "KMS plugin vault: ") {
				t.Fatalf("read: %v, want that the plugin does not answer", err)
			}
			if took > 0 {
				t.Fatalf("a read took %v", took)
			}
			began := time.Now()
			if err := s.Check(t.Context()); !unanswered(err) || time.Since(began) > 0 {
				t.Fatalf("health: %v after %v, want at once that the plugin does not answer", err, time.Since(began))
			}
		}
		began := time.Now()
		if _, err := s.Create(t.Context(), at(values), []byte("value"), store.WriteOptions{}); !unanswered(err) || time.Since(began) > 0 {
			t.Errorf("a write: %v after %v, want at once that the plugin does not answer", err, time.Since(began))
		}
		if n := s.vault.calls(); n != 1 {
			t.Errorf("the plugin was to unwrap %d times while it hung, want once", n)
		}
		// The loop finds that it is well, and everybody reads again.
		s.hang(false, false)
		began = time.Now()
		<-again
		if took := time.Since(began); took > askEverySick+timeoutOfPlugin {
			t.Errorf("the plugin was found well after %v", took)
		}
		if good, took := s.list(t); good != values || took > 0 {
			t.Errorf("a list had %d good values after %v, want %d at once", good, took, values)
		}
	})
}

// TestKMSUnwrapsNothing has a plugin say that it is well, and unwrap nothing: each time it says so costs one timeout at most.
func TestKMSUnwrapsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(t, 20)
		s.hang(true, false)
		var waited time.Duration
		began := time.Now()
		for time.Since(began) < 10*time.Minute {
			_, took := s.list(t)
			waited += took
			time.Sleep(500 * time.Millisecond)
			if err := s.Check(t.Context()); err != nil && !unanswered(err) {
				t.Fatal(err)
			}
		}
		most := int(time.Since(began)/askEverySick) + 2
		if n := s.vault.calls(); n < 10 || n > most {
			t.Errorf("the plugin was to unwrap %d times in ten minutes, want at most %d", n, most)
		}
		if waited > time.Duration(most)*timeoutOfPlugin {
			t.Errorf("lists took %v of ten minutes", waited)
		}
		s.hang(false, false)
		time.Sleep(askEverySick + timeoutOfPlugin)
		if good, _ := s.list(t); good != 20 {
			t.Errorf("a list had %d good values, want 20", good)
		}
	})
}

// TestKMSLateEnd has calls that began while the plugin hung end after it was found well: it stays so.
func TestKMSLateEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(t, 3)
		s.hang(true, false)
		ended := make(chan error, 2)
		for i := range 2 {
			go func() {
				_, err := s.read(t, i)
				ended <- err
			}()
			time.Sleep(time.Second)
		}
		s.hang(false, false)
		for range 2 {
			if err := <-ended; !unanswered(err) {
				t.Errorf("a call that was not answered: %v", err)
			}
			synctest.Wait()
			if _, failure := s.plugin.state(); failure != nil {
				t.Errorf("the plugin, which was found well meanwhile, counts as failed: %v", failure)
			}
		}
		if _, err := s.read(t, 2); err != nil {
			t.Error(err)
		}
	})
}

// TestKMSConnectsAgain has a plugin go away for an hour, which is long for who tries in ever longer intervals to connect.
func TestKMSConnectsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(t, 2)
		s.stop()
		if took, err := s.read(t, 0); !unanswered(err) {
			t.Errorf("read: %v after %v, want that the plugin does not answer", err, took)
		}
		time.Sleep(time.Hour)
		if took, err := s.read(t, 0); !unanswered(err) || took > 0 {
			t.Errorf("read: %v after %v, want at once that the plugin does not answer", err, took)
		}
		s.listen()
		time.Sleep(askEverySick + healthFresh)
		if _, err := s.read(t, 0); err != nil {
			t.Errorf("the plugin is back: %v", err)
		}
	})
}

// TestKMSSealedAndHangs has a plugin say that it is not well, and leave calls unanswered.
func TestKMSSealedAndHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(t, 100)
		s.vault.set("one", "sealed")
		s.hang(true, false)
		// The first call has the plugin asked. What it says is that it is there, so that the second is tried.
		began := time.Now()
		for i := range 100 {
			if _, err := s.read(t, i); !unanswered(err) {
				t.Fatalf("read: %v, want that the plugin does not answer", err)
			}
			synctest.Wait()
		}
		if took := time.Since(began); took != 2*timeoutOfPlugin {
			t.Errorf("100 reads took %v, want %v", took, 2*timeoutOfPlugin)
		}
	})
}

// TestKMSFoundSilentByOthers has a health check, not the loop, be the first to whom the plugin does not answer.
func TestKMSFoundSilentByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(t, 1)
		time.Sleep(askEvery / 6)
		s.hang(false, true)
		if err := s.Check(t.Context()); !unanswered(err) {
			t.Errorf("health: %v, want that the plugin does not answer", err)
		}
		s.hang(false, false)
		time.Sleep(askEverySick + time.Second)
		if _, err := s.read(t, 0); err != nil {
			t.Errorf("the plugin answers again: %v", err)
		}
	})
}

// TestKMSCheckGoesAway has who asks for the health not wait longer than they want to, nor tell others of it.
func TestKMSCheckGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(t, 1)
		time.Sleep(askEvery / 6)
		s.hang(false, true)
		ended := make(chan error, 2)
		began := time.Now()
		for range cap(ended) {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				ended <- s.Check(ctx)
			}()
		}
		for range cap(ended) {
			if err := <-ended; !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
				t.Errorf("health: %v after %v, want %v after a second", err, time.Since(began), context.DeadlineExceeded)
			}
		}
		if _, failure := s.plugin.state(); failure != nil {
			t.Errorf("the plugin was not waited for, and counts as failed: %v", failure)
		}
	})
}
