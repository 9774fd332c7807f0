// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authn_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver/admission/admissiontest"
	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/apiserver/request"
)

// authority is a throw-away certificate authority.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) issue(t *testing.T, usage x509.ExtKeyUsage, name string, orgs ...string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name, Organization: orgs}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func with(cert *x509.Certificate, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/api", nil)
	if cert != nil {
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func TestX509(t *testing.T) {
	ca, foreign := newAuthority(t), newAuthority(t)
	x := &authn.X509{Roots: ca.pool}
	user, ok, err := x.Authenticate(with(ca.issue(t, x509.ExtKeyUsageClientAuth, "jane", "devs", "ops")))
	if err != nil || !ok || user.Name != "jane" || strings.Join(user.Groups, " ") != "ops devs" {
		t.Errorf("Authenticate = %+v, %v, %v", user, ok, err)
	}
	for name, cert := range map[string]*x509.Certificate{
		"another authority": foreign.issue(t, x509.ExtKeyUsageClientAuth, "jane"), "a server certificate": ca.issue(t, x509.ExtKeyUsageServerAuth, "jane"),
	} {
		if _, ok, err := x.Authenticate(with(cert)); ok || err == nil {
			t.Errorf("%s was believed", name)
		}
	}
	if _, ok, err := x.Authenticate(with(nil)); ok || err != nil {
		t.Errorf("without certificate: %v, %v", ok, err)
	}
}

// TestGoodCertificatesAreRemembered until they end, or others are trusted.
func TestGoodCertificatesAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, other := newAuthority(t), newAuthority(t)
		roots := ca.pool()
		x := &authn.X509{Roots: func() *x509.CertPool { return roots }}
		jane := ca.issue(t, x509.ExtKeyUsageClientAuth, "jane")
		believed := func(want bool) {
			t.Helper()
			for range 2 {
				if _, ok, err := x.Authenticate(with(jane)); ok != want || (err == nil) != want {
					t.Errorf("Authenticate = %v, %v; want %v", ok, err, want)
				}
			}
		}
		believed(true)
		roots = other.pool()
		believed(false)
		roots = ca.pool()
		believed(true)
		time.Sleep(2 * time.Hour) // certificates of this test hold for one
		believed(false)
	})
}

func TestFrontProxy(t *testing.T) {
	proxyCA, clientCA := newAuthority(t), newAuthority(t)
	f := &authn.FrontProxy{Roots: proxyCA.pool, AllowedNames: []string{"front"}}
	headers := []string{"X-Remote-User", "jane", "X-Remote-Group", "devs", "X-Remote-Extra-Acme%2Fteam", "a", "X-Remote-Uid", "7"}
	r := with(proxyCA.issue(t, x509.ExtKeyUsageClientAuth, "front"), headers...)
	user, ok, err := f.Authenticate(r)
	want := &request.User{Name: "jane", UID: "7", Groups: []string{"devs"}, Extra: map[string][]string{"acme/team": {"a"}}}
	if err != nil || !ok || cmp.Diff(want, user) != "" {
		t.Errorf("Authenticate = %+v, %v, %v", user, ok, err)
	}
	if len(r.Header) != 0 {
		t.Errorf("headers that were believed stay: %v", r.Header)
	}
	for name, cert := range map[string]*x509.Certificate{
		"another name": proxyCA.issue(t, x509.ExtKeyUsageClientAuth, "back"), "a client's certificate": clientCA.issue(t, x509.ExtKeyUsageClientAuth, "front"), "nobody": nil,
	} {
		if _, ok, _ := f.Authenticate(with(cert, headers...)); ok {
			t.Errorf("headers of %s were believed", name)
		}
	}
}

// tokens recognises the token "good" and counts questions.
type tokens struct{ asked int }

func (f *tokens) AuthenticateToken(ctx context.Context, token string, _ []string) (*authn.TokenUser, bool, error) {
	f.asked++
	switch token {
	case "good":
		request.From(ctx).Annotate("seen", "yes")
		return &authn.TokenUser{User: request.User{Name: "bot"}}, true, nil
	case "bad":
		return nil, false, errors.New("bad token")
	}
	return nil, false, nil
}

func TestBearer(t *testing.T) {
	const prefix = "base64url.bearer.authorization.k8s.io."
	good := prefix + base64.RawURLEncoding.EncodeToString([]byte("good"))
	ws := func(protocols string) []string {
		return []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Protocol", protocols}
	}
	for _, c := range []struct {
		name    string
		headers []string
		ok, err bool
	}{
		{"no token", nil, false, false},
		{"basic", []string{"Authorization", "Basic good"}, false, false},
		{"good", []string{"Authorization", "bearer good"}, true, false},
		{"unknown", []string{"Authorization", "Bearer what"}, false, true},
		{"bad", []string{"Authorization", "Bearer bad"}, false, true},
		{"websocket", ws("v5.channel.k8s.io, " + good), true, false},
		{"websocket without another protocol", ws(good), false, true},
		{"websocket with two tokens", ws("a," + good + "," + good), false, true},
		{"websocket with garbage", ws("a," + prefix + "%%"), false, true},
		{"websocket without token", ws("a"), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := with(nil, c.headers...)
			r = r.WithContext(request.With(r.Context(), &request.State{}))
			_, ok, err := authn.Bearer{Tokens: &tokens{}}.Authenticate(r)
			if ok != c.ok || (err != nil) != c.err {
				t.Fatalf("Authenticate = %v, %v; want %v, error %v", ok, err, c.ok, c.err)
			}
			if all := strings.Join(r.Header.Values("Sec-Websocket-Protocol"), ",") + r.Header.Get("Authorization"); ok && strings.Contains(all, "good") || ok && strings.Contains(all, prefix) {
				t.Errorf("the token stays in the request: %v", r.Header)
			}
		})
	}
}

func TestTokenCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &tokens{}
		c := authn.NewTokenCache(next, authn.CacheConfig{Known: authn.TokenTTL})
		ask := func(token string) (bool, *request.State) {
			s := &request.State{}
			_, ok, _ := c.AuthenticateToken(request.With(t.Context(), s), token, nil)
			return ok, s
		}
		for range 3 {
			if ok, s := ask("good"); !ok || s.Annotations["seen"] != "yes" {
				t.Errorf("good token: %v, annotations %v", ok, s.Annotations)
			}
			ask("bad")
		}
		if next.asked != 4 {
			t.Errorf("asked %d times, want once for success and every time for failure", next.asked)
		}
		time.Sleep(11 * time.Second)
		if ask("good"); next.asked != 5 {
			t.Error("a success is believed for more than ten seconds")
		}
	})
}

func TestAnonymousPaths(t *testing.T) {
	for path, want := range map[string]bool{
		"/livez": true, "/readyz/etcd": true, "/version": true, "/api/v1/namespaces/kube-public/configmaps/cluster-info": true,
		"/": false, "/api": false, "/metrics": false, "/healthzz": false, "/api/v1/namespaces/kube-public/configmaps/cluster-info/x": false,
	} {
		if got := authn.AnonymousPaths(path); got != want {
			t.Errorf("AnonymousPaths(%q) = %v, want %v", path, got, want)
		}
	}
}

func TestTokenReview(t *testing.T) {
	v := authn.Reviews{Tokens: &tokens{}, Audiences: []string{"api"}}
	ask := func(token string) *authenticationv1.TokenReview {
		out, err := v.TokenReview(request.With(t.Context(), &request.State{}), &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}})
		if err != nil {
			t.Fatal(err)
		}
		return out.(*authenticationv1.TokenReview)
	}
	good := ask("good").Status
	if !good.Authenticated || good.User.Username != "bot" || strings.Join(good.User.Groups, "") != request.GroupAuthenticated || strings.Join(good.Audiences, "") != "api" {
		t.Errorf("good token: %+v", good)
	}
	if bad := ask("bad").Status; bad.Authenticated || bad.Error != "bad token" {
		t.Errorf("bad token: %+v", bad)
	}
	if _, err := v.TokenReview(t.Context(), &authenticationv1.TokenReview{}); err == nil {
		t.Error("a review without token was answered")
	}
}

func TestBootstrapToken(t *testing.T) {
	secret := func(change func(*corev1.Secret)) *corev1.Secret {
		s := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef"}, Type: "bootstrap.kubernetes.io/token",
			Data: map[string][]byte{
				"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-authentication": []byte("true"),
				"auth-extra-groups": []byte("system:bootstrappers:kubeadm:default-node-token"), "expiration": []byte(time.Now().Add(time.Hour).Format(time.RFC3339)),
			},
		}
		if change != nil {
			change(s)
		}
		return s
	}
	set := func(key, value string) func(*corev1.Secret) {
		return func(s *corev1.Secret) { s.Data[key] = []byte(value) }
	}
	for _, c := range []struct {
		name   string
		change func(*corev1.Secret)
		want   bool
	}{
		{"good", nil, true},
		{"another secret", set("token-secret", "0123456789abcdee"), false},
		{"another id", set("token-id", "abcdee"), false},
		{"not for authentication", set("usage-bootstrap-authentication", "false"), false},
		{"expired", set("expiration", time.Now().Add(-time.Minute).Format(time.RFC3339)), false},
		{"unreadable expiration", set("expiration", "tomorrow"), false},
		{"foreign group", set("auth-extra-groups", "system:masters"), false},
		{"another type", func(s *corev1.Secret) { s.Type = "Opaque" }, false},
		{"being deleted", func(s *corev1.Secret) { s.DeletionTimestamp = new(metav1.Now()) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := authn.BootstrapToken{Reader: admissiontest.NewReader(secret(c.change))}
			got, ok, err := b.AuthenticateToken(t.Context(), "abcdef.0123456789abcdef", nil)
			if err != nil || ok != c.want {
				t.Fatalf("AuthenticateToken = %v, %v, want %v", ok, err, c.want)
			}
			if ok && (got.User.Name != "system:bootstrap:abcdef" || strings.Join(got.User.Groups, " ") != "system:bootstrappers system:bootstrappers:kubeadm:default-node-token") {
				t.Errorf("user = %+v", got.User)
			}
		})
	}
}

func TestTokenFile(t *testing.T) {
	f, err := authn.ParseTokenFile([]byte("t1,jane,1,\"a,b\"\nt2,joe,2\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, ok, _ := f.AuthenticateToken(t.Context(), "t1", nil)
	if !ok || cmp.Diff(request.User{Name: "jane", UID: "1", Groups: []string{"a", "b"}}, got.User) != "" {
		t.Errorf("t1 = %+v, %v", got, ok)
	}
	if _, ok, _ := f.AuthenticateToken(t.Context(), "t3", nil); ok {
		t.Error("an unknown token was believed")
	}
	for _, bad := range []string{"t1,jane", ",jane,1", "\"t1"} {
		if _, err := authn.ParseTokenFile([]byte(bad)); err == nil {
			t.Errorf("ParseTokenFile(%q) found nothing wrong", bad)
		}
	}
}
