// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package hostile_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

// TestWatchFlood begins 2,000 watches of everything in a namespace, on a few connections, and takes nothing of them, while objects change. A watch
// is a cursor: what it has not read is kept once, for all.
func TestWatchFlood(t *testing.T) {
	s := lay(t)
	s.under(t, 384<<20, func(t *testing.T) {
		wires := []*wire{s.wire(t), s.wire(t), s.wire(t), s.wire(t)}
		for n := 200; n <= 2000; n += 200 { // More at a time are refused by fairness.
			for _, w := range wires {
				for range 200 / len(wires) {
					if _, err := w.open(http.MethodGet, maps+"?watch=1", true); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.out.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			s.watched(t, n)
		}
		s.stock(t, 300, 8<<10)
		for _, w := range wires {
			select {
			case <-w.ended:
				t.Error("the server ended the connection of a watcher")
			default:
			}
			_ = w.conn.Close()
		}
	})
}

// watched waits until there are n watches of config maps over the network.
func (s *siege) watched(t *testing.T, n int) {
	t.Helper()
	c := s.caller(innocent)
	defer c.close()
	found := ""
	for began := time.Now(); time.Since(began) < recovery; time.Sleep(50 * time.Millisecond) {
		_, data, err := c.do(t.Context(), http.MethodGet, "/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(line, "apiserver_longrunning_requests{") && strings.Contains(line, `resource="configmaps",scope="namespace"`) {
				found = line
				if there, _ := strconv.Atoi(strings.TrimSpace(line[strings.LastIndex(line, " "):])); there >= n {
					return
				}
			}
		}
	}
	t.Errorf("metrics say %q, want %d watches", found, n)
}

// TestManyNamespaces makes namespaces by the thousand, each of which gets an account and a config map from the controllers, and deletes them. All
// of it must go, and so must what the server, its caches and the controllers know of each.
func TestManyNamespaces(t *testing.T) {
	s := lay(t)
	n := 500
	if *long {
		n = 10_000
	}
	s.under(t, 512<<20, func(t *testing.T) {
		c := s.caller(attacker)
		defer c.close()
		each := func(do func(name string)) {
			var wg sync.WaitGroup
			for w := range 8 {
				wg.Go(func() {
					for i := w; i < n; i += 8 {
						do(fmt.Sprintf("flood-%d", i))
					}
				})
			}
			wg.Wait()
		}
		each(func(name string) {
			c.want(t, http.StatusCreated, http.MethodPost, "/api/v1/namespaces", fmt.Appendf(nil, `{"metadata":{"name":%q}}`, name))
		})
		each(func(name string) { c.want(t, http.StatusOK, http.MethodDelete, "/api/v1/namespaces/"+name, nil) })
		testcluster.Await(t, s.cluster.Admin(), "", 3*time.Minute, func(all []*corev1.Namespace) bool { return len(all) < 10 })
	})
	left, err := client.Of[*corev1.ServiceAccount](s.cluster.Admin()).List(t.Context(), "", metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range left.Items {
		if strings.HasPrefix(account.Namespace, "flood-") {
			t.Errorf("account %s/%s outlives its namespace", account.Namespace, account.Name)
		}
	}
}

// TestLabelBombs makes objects with thousands of labels and asks for them by selectors with as many requirements, sets of 100,000 values, and fields
// without end. Selectors are bounded only by the size of a request's head; to judge by them must cost no more than their size for each object.
func TestLabelBombs(t *testing.T) {
	s := lay(t)
	c := s.caller(attacker)
	defer c.close()
	labels := func(n int) string {
		var out strings.Builder
		for i := range n {
			fmt.Fprintf(&out, `"k%d":"v%d",`, i, i)
		}
		return strings.TrimSuffix(out.String(), ",")
	}
	for i := range 20 {
		c.want(t, http.StatusCreated, http.MethodPost, maps, fmt.Appendf(nil, `{"metadata":{"name":"labels-%d","labels":{%s}}}`, i, labels(5000)))
	}
	repeat := func(format string, n int, between string) string {
		var out strings.Builder
		for i := range n {
			if i > 0 {
				out.WriteString(between)
			}
			fmt.Fprintf(&out, format, i)
		}
		return out.String()
	}
	s.under(t, 384<<20, func(t *testing.T) {
		for _, r := range []struct {
			selector string
			codes    []int
		}{
			{"labelSelector=" + repeat("!x%d", 50_000, ","), []int{200}},
			{"labelSelector=" + repeat("k%d", 5000, ","), []int{200}},
			{"labelSelector=k1+in+(" + repeat("v%d", 100_000, ",") + ")", []int{200}},
			{"labelSelector=k1+notin+(" + repeat("w%d", 100_000, ",") + ")", []int{200}},
			{"labelSelector=" + repeat("k%d+in+(a,b", 20_000, ",("), []int{400}},
			{"labelSelector=" + strings.Repeat("(", 500_000), []int{400}},
			{"labelSelector=" + strings.Repeat("a", 500_000), []int{400}},
			{"fieldSelector=" + repeat("metadata.name!=n%d", 20_000, ","), []int{200}},
			{"fieldSelector=" + repeat("no.such.field%d=a", 20_000, ","), []int{400}},
			{"fieldSelector=metadata.name=" + strings.Repeat(`\\`, 200_000), []int{200, 400}},
		} {
			code, data, err := c.do(t.Context(), http.MethodGet, maps+"?limit=1000&"+r.selector, nil)
			if err != nil || code != r.codes[0] && code != r.codes[len(r.codes)-1] {
				t.Errorf("%.60s = %d, %v, want %v: %.200s", r.selector, code, err, r.codes, data)
			}
		}
		selector := repeat(`{"key":"k%d","operator":"Exists"}`, 20_000, ",")
		c.want(t, http.StatusCreated, http.MethodPost, "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
			[]byte(`{"metadata":{"name":"bomb"},"spec":{"podSelector":{"matchExpressions":[`+selector+`]}}}`))
		c.want(t, http.StatusCreated, http.MethodPost, "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
			[]byte(`{"metadata":{"name":"bomb"},"spec":{"selector":{"matchExpressions":[`+selector+`]}}}`))
	})
}

// TestManyErrors sends objects with a hundred thousand things wrong. The answer must not grow with the square of their number.
func TestManyErrors(t *testing.T) {
	s := lay(t)
	s.under(t, 512<<20, func(t *testing.T) {
		c := s.caller(attacker)
		defer c.close()
		finalizers := strings.TrimSuffix(strings.Repeat(`"?",`, 100_000), ",")
		c.want(t, http.StatusUnprocessableEntity, http.MethodPost, maps, []byte(`{"metadata":{"name":"wrong","finalizers":[`+finalizers+`]}}`))
		var labels strings.Builder
		for i := range 20_000 {
			fmt.Fprintf(&labels, `"?%d":"",`, i)
		}
		c.want(t, http.StatusUnprocessableEntity, http.MethodPost, maps, []byte(`{"metadata":{"name":"wrong","labels":{`+strings.TrimSuffix(labels.String(), ",")+`}}}`))
	})
}

// TestManyWarnings sends objects and patches with thousands of fields that do not exist. Each is a warning in the answer's head, which clients take
// only so much of: there may be 4,096 letters, as upstream's.
func TestManyWarnings(t *testing.T) {
	s := lay(t)
	s.under(t, 256<<20, func(t *testing.T) {
		c := s.caller(attacker)
		defer c.close()
		var fields strings.Builder
		for i := range 20_000 {
			fmt.Fprintf(&fields, `,"field%d":1`, i)
		}
		const templates = "/api/v1/namespaces/default/podtemplates"
		object := []byte(`{"metadata":{"name":"w"},"template":{"spec":{"containers":[{"name":"c","image":"i"` + fields.String() + `}]}}}`)
		for _, r := range []struct{ method, path, kind string }{
			{http.MethodPost, templates, "application/json"},
			{http.MethodPut, templates + "/w", "application/json"},
			{http.MethodPatch, templates + "/w", "application/strategic-merge-patch+json"},
			{http.MethodPatch, templates + "/w", "application/merge-patch+json"},
		} {
			req, err := http.NewRequestWithContext(t.Context(), r.method, "https://"+s.address+r.path, bytes.NewReader(object))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+attacker)
			req.Header.Set("Content-Type", r.kind)
			res, err := c.http.Do(req)
			if err != nil {
				t.Errorf("%s %s: %v", r.method, r.kind, err)
				continue
			}
			_ = res.Body.Close()
			warned := 0
			for _, text := range res.Header["Warning"] {
				warned += len(text)
			}
			if res.StatusCode >= 300 || warned == 0 || warned > 8<<10 {
				t.Errorf("%s %s = %d with %d bytes of warnings, want some and at most 8 KiB", r.method, r.kind, res.StatusCode, warned)
			}
		}
	})
}
