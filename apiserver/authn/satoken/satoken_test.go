// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package satoken_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver/admission/admissiontest"
	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/apiserver/authn/satoken"
	"kogge.dev/kogge/apiserver/request"
)

const issuer = "https://kubernetes.default.svc"

func ecKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var (
	account = &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "bot", UID: "sa-1"}}
	podObj  = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "pod-1"}, Spec: corev1.PodSpec{ServiceAccountName: "bot", NodeName: "n"}}
	nodeObj = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "node-1"}}
)

func newPair(t testing.TB, key crypto.Signer, reader *admissiontest.Reader) (*satoken.Requests, *satoken.Verifier) {
	t.Helper()
	i, err := satoken.NewIssuer(issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := satoken.NewVerifier(satoken.VerifierConfig{Issuers: []string{issuer}, Keys: []crypto.PublicKey{key.Public()}, Audiences: []string{issuer}, Reader: reader})
	if err != nil {
		t.Fatal(err)
	}
	return &satoken.Requests{Issuer: i, Reader: reader, Audiences: []string{issuer}}, v
}

func ask(t testing.TB, r *satoken.Requests, spec authenticationv1.TokenRequestSpec) *authenticationv1.TokenRequest {
	t.Helper()
	out, err := r.Create(t.Context(), "ns", "bot", &authenticationv1.TokenRequest{Spec: spec}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out.(*authenticationv1.TokenRequest)
}

var podRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p"}

func TestRoundTripWithEveryKey(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"RSA": rsaKey, "ECDSA": ecKey(t)} {
		t.Run(name, func(t *testing.T) {
			requests, verifier := newPair(t, key, admissiontest.NewReader(account, podObj, nodeObj))
			tr := ask(t, requests, authenticationv1.TokenRequestSpec{BoundObjectRef: podRef})
			got, ok, err := verifier.AuthenticateToken(t.Context(), tr.Status.Token, nil)
			if err != nil || !ok {
				t.Fatalf("AuthenticateToken = %v, %v", ok, err)
			}
			u := got.User
			if u.Name != "system:serviceaccount:ns:bot" || u.UID != "sa-1" || strings.Join(u.Groups, " ") != "system:serviceaccounts system:serviceaccounts:ns" {
				t.Errorf("user = %+v", u)
			}
			if u.Extra[authn.PodNameKey][0] != "p" || u.Extra[authn.PodUIDKey][0] != "pod-1" || u.Extra[authn.NodeNameKey][0] != "n" || u.Extra[authn.NodeUIDKey][0] != "node-1" ||
				!strings.HasPrefix(u.Extra[authn.CredentialIDKey][0], "JTI=") {
				t.Errorf("extra = %v", u.Extra)
			}
		})
	}
}

func TestTokensDieWithWhatTheyAreBoundTo(t *testing.T) {
	key := ecKey(t)
	other := podObj.DeepCopy()
	other.UID = "pod-2"
	for _, c := range []struct {
		name   string
		change func(*admissiontest.Reader)
		want   string
	}{
		{"nothing changed", func(*admissiontest.Reader) {}, ""},
		{"pod deleted", func(r *admissiontest.Reader) { r.Delete(podObj) }, "service account token has been invalidated"},
		{"pod made again", func(r *admissiontest.Reader) { r.Put(other) }, "pod UID (pod-2) does not match service account pod ref claim (pod-1)"},
		{"account deleted", func(r *admissiontest.Reader) { r.Delete(account) }, "not found"},
		{"node deleted, which a pod's token survives", func(r *admissiontest.Reader) { r.Delete(nodeObj) }, ""},
		{"pod only in the store", func(r *admissiontest.Reader) { r.Delete(podObj); r.PutFresh(podObj) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			reader := admissiontest.NewReader(account, podObj, nodeObj)
			requests, verifier := newPair(t, key, reader)
			tr := ask(t, requests, authenticationv1.TokenRequestSpec{BoundObjectRef: podRef})
			c.change(reader)
			_, ok, err := verifier.AuthenticateToken(t.Context(), tr.Status.Token, nil)
			switch {
			case c.want == "" && (!ok || err != nil):
				t.Errorf("AuthenticateToken = %v, %v, want success", ok, err)
			case c.want != "" && (ok || err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("AuthenticateToken = %v, %v, want %q", ok, err, c.want)
			}
		})
	}
}

func TestAudiences(t *testing.T) {
	requests, verifier := newPair(t, ecKey(t), admissiontest.NewReader(account))
	vault := ask(t, requests, authenticationv1.TokenRequestSpec{Audiences: []string{"vault", issuer}})
	only := ask(t, requests, authenticationv1.TokenRequestSpec{Audiences: []string{"vault"}})
	if got, ok, err := verifier.AuthenticateToken(t.Context(), vault.Status.Token, []string{issuer, "x"}); !ok || err != nil || strings.Join(got.Audiences, " ") != issuer {
		t.Errorf("audiences = %+v, %v", got, err)
	}
	if _, ok, err := verifier.AuthenticateToken(t.Context(), only.Status.Token, []string{issuer}); ok || err == nil {
		t.Errorf("a token for another audience was believed")
	}
	// One audience is written as a list, too.
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(only.Status.Token, ".")[1])
	if err != nil || !strings.Contains(string(payload), `"aud":["vault"]`) {
		t.Errorf("payload = %s, %v; want its audience in a list", payload, err)
	}
}

func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests, verifier := newPair(t, ecKey(t), admissiontest.NewReader(account, podObj, nodeObj))
		short := ask(t, requests, authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(600))})
		extended := ask(t, requests, authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(3607)), BoundObjectRef: podRef})
		if at := time.Until(extended.Status.ExpirationTimestamp.Time); at > 3607*time.Second {
			t.Errorf("the client is told that an extended token lives for %v", at)
		}
		ok := func(token string) (bool, map[string]string, error) {
			state := &request.State{}
			_, ok, err := verifier.AuthenticateToken(request.With(t.Context(), state), token, nil)
			return ok, state.Annotations, err
		}
		if good, _, err := ok(short.Status.Token); !good {
			t.Error(err)
		}
		time.Sleep(12 * time.Minute)
		if good, _, err := ok(short.Status.Token); good || err == nil || err.Error() != "service account token has expired" {
			t.Errorf("after its time: %v, %v", good, err)
		}
		time.Sleep(2 * time.Hour)
		good, notes, err := ok(extended.Status.Token)
		if !good || !strings.HasPrefix(notes["authentication.k8s.io/stale-token"], "subject: system:serviceaccount:ns:bot, seconds after warning threshold: ") {
			t.Errorf("stale token: %v, %v, notes %v", good, err, notes)
		}
		time.Sleep(366 * 24 * time.Hour)
		if good, _, _ := ok(extended.Status.Token); good {
			t.Error("an extended token lives for ever")
		}
	})
}

func TestForeignTokens(t *testing.T) {
	reader := admissiontest.NewReader(account)
	_, verifier := newPair(t, ecKey(t), reader)
	forged, _ := newPair(t, ecKey(t), reader)
	tr := ask(t, forged, authenticationv1.TokenRequestSpec{})
	if _, ok, err := verifier.AuthenticateToken(t.Context(), tr.Status.Token, nil); ok || err == nil {
		t.Error("a token of another key with our issuer's name was believed")
	}
	for _, token := range []string{"", "a.b", "a.b.c", "abcdef.0123456789abcdef"} {
		if _, ok, err := verifier.AuthenticateToken(t.Context(), token, nil); ok || err != nil {
			t.Errorf("AuthenticateToken(%q) = %v, %v, want not ours", token, ok, err)
		}
	}
}

func TestRequestsAreChecked(t *testing.T) {
	requests, _ := newPair(t, ecKey(t), admissiontest.NewReader(account, podObj))
	for _, c := range []struct {
		name, want string
		req        authenticationv1.TokenRequest
	}{
		{"short", "may not specify a duration less than 10 minutes", authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(599))}}},
		{"long", "may not specify a duration larger than 2^32 seconds", authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(1<<32 + 1))}}},
		{"name", "must match the service account name if specified", authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{Name: "x"}}},
		{"uid", "does not match the UID of the service account", authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{UID: "x"}}},
		{"kind", "cannot bind token to object of type apps/v1, Kind=Deployment", authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "apps/v1", Kind: "Deployment"}}}},
		{"gone", `pods "gone" not found`, authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "gone"}}}},
		{"bound uid", "does not match the UID in record", authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p", UID: "x"}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := requests.Create(t.Context(), "ns", "bot", &c.req, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want %q", err, c.want)
			}
		})
	}
}

func TestDocumentsNameTheKey(t *testing.T) {
	key := ecKey(t)
	docs, err := satoken.NewDocuments(issuer, "", []crypto.PublicKey{key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	var configuration struct {
		URI        string   `json:"jwks_uri"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(docs.Configuration, &configuration); err != nil || configuration.URI != issuer+"/openid/v1/jwks" || configuration.Algorithms[0] != "ES256" {
		t.Errorf("configuration = %s", docs.Configuration)
	}
	if err := json.Unmarshal(docs.KeySet, &set); err != nil || len(set.Keys) != 1 || !set.Keys[0].IsPublic() {
		t.Errorf("key set = %s", docs.KeySet)
	}
}

func FuzzVerifier(f *testing.F) {
	requests, verifier := newPair(f, ecKey(f), admissiontest.NewReader(account))
	token := ask(f, requests, authenticationv1.TokenRequestSpec{}).Status.Token
	f.Add(token)
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2t1YmVybmV0ZXMuZGVmYXVsdC5zdmMifQ.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		_, ok, _ := verifier.AuthenticateToken(t.Context(), text, nil)
		// The signature covers header and payload; only its own encoding could differ.
		if ok && !strings.HasPrefix(text, token[:strings.LastIndex(token, ".")+1]) {
			t.Errorf("believed %q", text)
		}
	})
}
