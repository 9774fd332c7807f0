// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package hostile_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/memory"
	"kogge.dev/kogge/testcluster"
)

const (
	// patience is the longest that an innocent request may take. It is far above what it takes on a loaded machine.
	patience = 10 * time.Second
	// recovery is how long the server has to give back what an attack took.
	recovery = 20 * time.Second
	// remembered is how long besides, after a long flood: the server's caches keep changes for more than a minute, so that watches find
	// their place again.
	remembered = 3 * time.Minute
	// returned is how much of the heap, and goroutines how many, may stay when an attack is over: caches and idle connections.
	returned   = 48 << 20
	goroutines = 40
	// innocent and attacker are users, and the tokens that prove them. Neither is exempt from the server's fairness.
	innocent = "system:serviceaccount:default:innocent"
	attacker = "attacker"
)

// long makes floods as large as they are told of elsewhere; they take minutes then.
var long = flag.Bool("long", false, "ten thousand namespaces instead of some hundred")

// users believes tokens that are the names of the two users.
type users struct{}

func (users) AuthenticateToken(_ context.Context, token string, audiences []string) (*authn.TokenUser, bool, error) {
	switch token {
	case innocent:
		return &authn.TokenUser{User: request.User{Name: token, Groups: []string{request.GroupServiceAccounts}}, Audiences: audiences}, true, nil
	case attacker:
		return &authn.TokenUser{User: request.User{Name: token}, Audiences: audiences}, true, nil
	}
	return nil, false, nil
}

// siege is a server under attack.
type siege struct {
	cluster *testcluster.Cluster
	store   store.Store
	address string
}

// lay starts a server for one test.
func lay(t *testing.T) *siege {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &siege{store: memory.New(), address: listener.Addr().String()}
	s.cluster = testcluster.New(t, testcluster.Config{Store: s.store, Listener: listener, Tokens: []authn.TokenAuthenticator{users{}}})
	_, err = client.Of[*rbacv1.ClusterRoleBinding](s.cluster.Admin()).Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "siege"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: innocent}, {APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: attacker}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Of[*corev1.ConfigMap](s.cluster.Admin()).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "mine"}})
	if err != nil {
		t.Fatal(err)
	}
	s.settles(t)
	return s
}

// settles waits until the components of the cluster have started: until the controllers have done something, and no more goroutines come.
func (s *siege) settles(t *testing.T) {
	t.Helper()
	testcluster.Await(t, s.cluster.Admin(), "default", recovery, func(all []*corev1.ServiceAccount) bool { return len(all) > 0 })
	last, same := 0, 0
	for began := time.Now(); same < 6 && time.Since(began) < recovery; time.Sleep(50 * time.Millisecond) {
		now := runtime.NumGoroutine()
		if same++; now != last {
			last, same = now, 0
		}
	}
}

// trust is the TLS configuration of clients, for an application protocol.
func (s *siege) trust(protocols ...string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.cluster.Roots(), NextProtos: protocols}
}

// dial opens a connection of the attacker's, which ends with the test.
func (s *siege) dial(t *testing.T, protocol string) *tls.Conn {
	t.Helper()
	d := tls.Dialer{Config: s.trust(protocol)}
	conn, err := d.DialContext(t.Context(), "tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // Most tests have closed it.
	return conn.(*tls.Conn)
}

// caller is a well-behaved HTTP client with connections of its own.
type caller struct {
	http    *http.Client
	address string
	token   string
}

func (s *siege) caller(token string) *caller {
	return &caller{
		http:    &http.Client{Transport: &http.Transport{TLSClientConfig: s.trust(), ForceAttemptHTTP2: true, DisableCompression: true}, Timeout: 2 * time.Minute},
		address: s.address, token: token,
	}
}

// close gives the connections back.
func (c *caller) close() { c.http.CloseIdleConnections() }

// do sends one request. Headers are pairs of names and values.
func (c *caller) do(ctx context.Context, method, path string, body []byte, headers ...string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.address+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	return res.StatusCode, data, err
}

// want sends one request and fails the test if the answer has another status. It returns the answer's text, shortened.
func (c *caller) want(t *testing.T, code int, method, path string, body []byte, headers ...string) string {
	t.Helper()
	got, data, err := c.do(t.Context(), method, path, body, headers...)
	if err != nil {
		t.Errorf("%s %.100s: %v, want status %d", method, path, err, code)
		return ""
	}
	text := string(data[:min(len(data), 400)])
	if got != code {
		t.Errorf("%s %.100s = %d, want %d: %s", method, path, got, code, text)
	}
	return text
}

// witness is what the innocent client has seen.
type witness struct {
	rounds  int
	slowest time.Duration
	errs    []error
}

const mine = "/api/v1/namespaces/default/configmaps/mine"

// watchOver writes and reads an object until the context ends, now and then over a new connection.
func (s *siege) watchOver(ctx context.Context) (w witness) {
	c := s.caller(innocent)
	defer func() { c.close() }()
	step := func(method string, body []byte, headers ...string) []byte {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		began := time.Now()
		code, data, err := c.do(limited, method, mine, body, headers...)
		if took := time.Since(began); took > w.slowest {
			w.slowest = took
		}
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d: %.200s", code, data)
		}
		if err != nil {
			w.errs = append(w.errs, fmt.Errorf("%s in round %d: %w", method, w.rounds, err))
		}
		return data
	}
	for ctx.Err() == nil && len(w.errs) < 5 {
		if w.rounds%20 == 19 {
			c.close()
			c = s.caller(innocent)
		}
		value := fmt.Sprint(w.rounds)
		step(http.MethodPatch, fmt.Appendf(nil, `{"data":{"round":%q}}`, value), "Content-Type", "application/merge-patch+json")
		var found corev1.ConfigMap
		if data := step(http.MethodGet, nil, "Accept", "application/json"); len(w.errs) == 0 {
			if err := json.Unmarshal(data, &found); err != nil || found.Data["round"] != value {
				w.errs = append(w.errs, fmt.Errorf("read %v, %w; want what was written, %q", found.Data, err, value))
			}
		}
		w.rounds++
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	return w
}

// heap returns the bytes of the objects in the heap, dead ones that the collector has not seen included.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// live returns the bytes that survive a collection. Pools empty in the second.
func live() uint64 {
	runtime.GC()
	runtime.GC()
	return heap()
}

// under runs an attack while the innocent client and the memory are watched. bound is how much the heap may grow meanwhile, with what the
// attacker itself holds, since both live in one process. When attack returns it has closed what it opened.
func (s *siege) under(t *testing.T, bound uint64, attack func(t *testing.T)) {
	t.Helper()
	before, crowd := live(), runtime.NumGoroutine()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	var seen witness
	wg.Go(func() { seen = s.watchOver(ctx) })
	var peak uint64
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			peak = max(peak, heap())
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	began := time.Now()
	attack(t)
	took := time.Since(began)
	stop()
	wg.Wait()
	grown := peak - min(peak, before)
	t.Logf("attack of %v: innocent client did %d rounds, slowest answer %v; heap grew by at most %d MiB", took.Round(time.Millisecond), seen.rounds, seen.slowest.Round(time.Millisecond), grown>>20)
	for _, err := range seen.errs {
		t.Errorf("innocent client: %v", err)
	}
	if seen.rounds == 0 {
		t.Error("innocent client did not finish a round")
	}
	if seen.slowest > patience {
		t.Errorf("innocent client waited %v for an answer, want at most %v", seen.slowest, patience)
	}
	if grown > bound {
		t.Errorf("heap grew by %d MiB during the attack, want at most %d", grown>>20, bound>>20)
	}
	s.recovers(t, before, crowd)
}

// recovers waits until memory and goroutines are back. After a long flood the store's history alone is more than may stay: it is dropped here, not
// after five minutes.
func (s *siege) recovers(t *testing.T, before uint64, crowd int) {
	t.Helper()
	patience := recovery
	if *long {
		patience += remembered
		s.forgets(t)
	}
	deadline := time.Now().Add(patience)
	for {
		held, running := live(), runtime.NumGoroutine()
		if held <= before+returned && running <= crowd+goroutines {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%v after the attack there are %d goroutines and %d MiB in the heap, want about the %d and %d of before", patience, running, held>>20, crowd, before>>20)
			t.Log(crowded())
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// forgets drops the store's history.
func (s *siege) forgets(t *testing.T) {
	t.Helper()
	revision, err := s.store.Revision(t.Context())
	if err == nil {
		err = s.store.Compact(t.Context(), revision)
	}
	if err != nil {
		t.Errorf("compact the store: %v", err)
	}
}

// sheds waits until the server works on at least n requests, seen by a function that they run in, and then until it works on none.
func sheds(t *testing.T, function string, n int) {
	t.Helper()
	buf := make([]byte, 4<<20)
	await := func(what string, ok func(int) bool) {
		deadline := time.Now().Add(recovery)
		for {
			found := bytes.Count(stacks(buf), []byte(function))
			if ok(found) {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("%d goroutines are in %s, want %s", found, function, what)
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	await(fmt.Sprintf("at least %d at first", n), func(found int) bool { return found >= n })
	await("none in the end", func(found int) bool { return found == 0 })
}

// stacks returns those of all goroutines, read into buf.
func stacks(buf []byte) []byte { return buf[:runtime.Stack(buf, true)] }

// crowded describes the stacks that most goroutines share.
func crowded() string {
	count := map[string]int{}
	for stack := range strings.SplitSeq(string(stacks(make([]byte, 16<<20))), "\n\n") {
		lines := strings.Split(stack, "\n")
		var frames []string
		for i := 1; i < len(lines) && len(frames) < 14; i += 2 {
			name, _, _ := strings.Cut(lines[i], "(0x")
			frames = append(frames, name)
		}
		count[strings.Join(frames, " < ")]++
	}
	var out strings.Builder
	for stack, n := range count {
		if n >= 10 {
			fmt.Fprintf(&out, "%d × %s\n", n, stack)
		}
	}
	return out.String()
}
