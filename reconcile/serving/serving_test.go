// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package serving_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/reconcile/serving"
	"kogge.dev/kogge/testcluster"
)

// component runs a server with the identity of a scheduler until the test ends, and returns its URL.
func component(t *testing.T, cluster *testcluster.Cluster, checks ...serving.Check) string {
	t.Helper()
	authority, err := pki.NewAuthority("serving")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Issue(pki.Leaf{Name: "serving", User: "serving", IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "things_total", Help: "Things."}))
	s := serving.New(serving.Config{
		Listener: listener, Certificate: pair.TLS(), Client: cluster.As("system:kube-scheduler"), Checks: checks, Metrics: registry,
		Configuration: map[string]any{"componentconfig": map[string]any{"a": "b"}}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "https://" + listener.Addr().String()
}

// ask sends a request, with a token if there is one and a certificate if there is one.
func ask(t *testing.T, url, token string, certificates ...tls.Certificate) (code int, body string) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certificates}} //nolint:gosec // nobody knows its certificate
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// tokenOf makes a service account that may read some paths, and a token of it.
func tokenOf(t *testing.T, admin *client.Client, name string, paths ...string) string {
	t.Helper()
	meta := metav1.ObjectMeta{Name: name}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	if _, err := client.Of[*corev1.ServiceAccount](admin).Create(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	if len(paths) > 0 {
		role := &rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: paths}}}
		if _, err := client.Of[*rbacv1.ClusterRole](admin).Create(t.Context(), role); err != nil {
			t.Fatal(err)
		}
		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "default", Name: name}},
		}
		if _, err := client.Of[*rbacv1.ClusterRoleBinding](admin).Create(t.Context(), binding); err != nil {
			t.Fatal(err)
		}
		testcluster.Settle(t, admin)
	}
	made, err := client.Of[*corev1.ServiceAccount](admin).Post(t.Context(), "default", name, "token", &authenticationv1.TokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return made.(*authenticationv1.TokenRequest).Status.Token
}

func TestWhoMayAskWhat(t *testing.T) {
	cluster := testcluster.New(t)
	url := component(t, cluster)
	reader, nobody := tokenOf(t, cluster.Admin(), "reader", "/metrics", "/configz"), tokenOf(t, cluster.Admin(), "nobody")
	for _, c := range []struct {
		path, token string
		code        int
		body        string
	}{
		{"/healthz", "", 200, "ok"},
		{"/livez", "", 200, "ok"},
		{"/readyz?verbose", "", 200, "[+]ping ok\nreadyz check passed\n"},
		{"/healthz/ping", "", 403, `User \"system:anonymous\" cannot get path \"/healthz/ping\"`},
		{"/metrics", "", 403, `"message":"forbidden: User \"system:anonymous\" cannot get path \"/metrics\"","reason":"Forbidden","details":{},"code":403`},
		{"/metrics", "forged", 401, `"kind":"Status"`},
		{"/healthz", "forged", 401, `"message":"Unauthorized"`},
		{"/metrics", nobody, 403, `User \"system:serviceaccount:default:nobody\" cannot get path \"/metrics\"`},
		{"/metrics", reader, 200, "things_total 0"},
		{"/configz", reader, 200, `{"componentconfig":{"a":"b"}}`},
		{"/debug/pprof/cmdline", reader, 403, "cannot get path"},
	} {
		code, body := ask(t, url+c.path, c.token)
		if code != c.code || !strings.Contains(body, c.body) {
			t.Errorf("%s: %d %q, want %d %q", c.path, code, body, c.code, c.body)
		}
	}
}

func TestClientCertificatesOfThePublishedAuthority(t *testing.T) {
	cluster := testcluster.New(t)
	url := component(t, cluster)
	authority, err := pki.NewAuthority("clients")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Issue(pki.Leaf{Name: "admin", User: "admin", Groups: []string{"system:masters"}})
	if err != nil {
		t.Fatal(err)
	}
	maps := client.Of[*corev1.ConfigMap](cluster.Admin())
	trust, err := maps.Get(t.Context(), "kube-system", "extension-apiserver-authentication")
	if err != nil {
		t.Fatal(err)
	}
	trust = trust.DeepCopy()
	trust.Data["client-ca-file"] = string(authority.CertPEM())
	if _, err := maps.Update(t.Context(), trust); err != nil {
		t.Fatal(err)
	}
	code, body := 0, ""
	for deadline := time.Now().Add(10 * time.Second); code != http.StatusOK && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		code, body = ask(t, url+"/metrics", "", pair.TLS())
	}
	if code != http.StatusOK {
		t.Errorf("an administrator's certificate: %d %s", code, body)
	}
	stranger, err := pki.NewAuthority("strangers")
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := stranger.Issue(pki.Leaf{Name: "admin", User: "admin", Groups: []string{"system:masters"}})
	if err != nil {
		t.Fatal(err)
	}
	if code, body := ask(t, url+"/metrics", "", foreign.TLS()); code != http.StatusUnauthorized {
		t.Errorf("a certificate of nobody's: %d %s, want 401", code, body)
	}
}

func TestReadinessIsNotLiveness(t *testing.T) {
	cluster := testcluster.New(t)
	url := component(t, cluster, serving.Check{Name: "informer-sync", Ready: true, Probe: func(context.Context) error { return errors.New("not yet") }})
	for path, want := range map[string]int{"/readyz": 500, "/livez": 200, "/healthz": 200, "/readyz?exclude=informer-sync": 200} {
		if code, body := ask(t, url+path, ""); code != want || code == 500 && body != "[+]ping ok\n[-]informer-sync failed: reason withheld\nreadyz check failed\n" {
			t.Errorf("%s: %d %q, want %d", path, code, body, want)
		}
	}
	want := "[+]ping ok\n[+]informer-sync excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"a\",\"b\"\nreadyz check passed\n"
	if _, body := ask(t, url+"/readyz?verbose&exclude=b&exclude=informer-sync&exclude=a", ""); body != want {
		t.Errorf("checks that are not there, excluded: %q, want %q", body, want)
	}
}

// What is below an endpoint answers for itself, to those who may ask.
func TestOneCheck(t *testing.T) {
	checks := []serving.Check{{Name: "a/b", Probe: func(context.Context) error { return errors.New("not yet") }}, {Name: "c", Probe: func(context.Context) error { return nil }}}
	for path, want := range map[string]string{"/readyz/a/b": "500 internal server error: not yet\n", "/readyz/c": "200 ok", "/readyz/d": "404 404 page not found\n", "/readyz/": "404 404 page not found\n"} {
		rec := httptest.NewRecorder()
		serving.Health(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil), "readyz", checks)
		if got := fmt.Sprint(rec.Code, " ", rec.Body); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
