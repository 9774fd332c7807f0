// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package csrsigning_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/testcluster"
)

type request struct {
	signer  string
	subject pkix.Name
	dns     []string
	ips     []net.IP
	usage   certificatesv1.KeyUsage
	seconds *int32
}

func ask(t *testing.T, c *client.Client, r request) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: r.subject, DNSNames: r.dns, IPAddresses: r.ips}, key)
	if err != nil {
		t.Fatal(err)
	}
	created, err := client.Of[*certificatesv1.CertificateSigningRequest](c).Create(t.Context(), &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "csr-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: r.signer, ExpirationSeconds: r.seconds, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, r.usage},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func nodeName(node string) pkix.Name {
	return pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}
}

// answer waits for the certificate, or for a condition that says that there is none.
func answer(t *testing.T, c *client.Client, name string) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	var found *certificatesv1.CertificateSigningRequest
	testcluster.Await(t, c, "", 10*time.Second, func(all []*certificatesv1.CertificateSigningRequest) bool {
		for _, r := range all {
			if r.Name != name {
				continue
			}
			found = r
			for _, condition := range r.Status.Conditions {
				if condition.Type == certificatesv1.CertificateFailed {
					return true
				}
			}
			return len(r.Status.Certificate) > 0
		}
		return false
	})
	return found
}

// TestNodeJoins asks for the three certificates that a joining node needs, in order and under its identities.
func TestNodeJoins(t *testing.T) {
	cluster := testcluster.New(t)
	admin := cluster.Admin()
	token := cluster.As("system:bootstrap:abcdef", "system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token")
	node := cluster.As("system:node:n1", "system:nodes")
	requests := []struct {
		by *client.Client
		request
	}{
		{token, request{signer: certificatesv1.KubeAPIServerClientKubeletSignerName, subject: nodeName("n1"), usage: certificatesv1.UsageClientAuth}},
		{node, request{signer: certificatesv1.KubeAPIServerClientKubeletSignerName, subject: nodeName("n1"), usage: certificatesv1.UsageClientAuth}},
		{node, request{
			signer: certificatesv1.KubeletServingSignerName, subject: nodeName("n1"), usage: certificatesv1.UsageServerAuth,
			dns: []string{"n1"}, ips: []net.IP{net.ParseIP("192.0.2.7")},
		}},
		{node, request{
			signer: certificatesv1.KubeAPIServerClientSignerName, subject: pkix.Name{CommonName: "system:kube-proxy"}, usage: certificatesv1.UsageClientAuth,
		}},
	}
	for _, r := range requests {
		signed := answer(t, admin, ask(t, r.by, r.request).Name)
		cert, err := pki.ParseCert(signed.Status.Certificate)
		if err != nil {
			t.Fatalf("%s: %v (%+v)", r.signer, err, signed.Status.Conditions)
		}
		if cert.Subject.CommonName != r.subject.CommonName || len(cert.IPAddresses) != len(r.ips) {
			t.Errorf("%s: certificate for %v, %v", r.signer, cert.Subject, cert.IPAddresses)
		}
		if life := cert.NotAfter.Sub(cert.NotBefore); life != 365*24*time.Hour {
			t.Errorf("%s: certificate lives %v", r.signer, life)
		}
	}
}

// TestForeignNamesWait asks for what nobody approves by rule: they stay pending.
func TestForeignNamesWait(t *testing.T) {
	cluster := testcluster.New(t)
	node := cluster.As("system:node:n1", "system:nodes")
	user := cluster.As("someone", "system:masters")
	_, err := client.Of[*corev1.Node](cluster.Admin()).Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	if err != nil {
		t.Fatal(err)
	}
	serving := request{
		signer: certificatesv1.KubeletServingSignerName, subject: nodeName("n1"), usage: certificatesv1.UsageServerAuth, dns: []string{"kubernetes.default"},
	}
	proxy := request{
		signer: certificatesv1.KubeAPIServerClientSignerName, subject: pkix.Name{CommonName: "system:kube-proxy"}, usage: certificatesv1.UsageClientAuth,
	}
	other := request{
		signer: certificatesv1.KubeAPIServerClientSignerName, subject: pkix.Name{CommonName: "system:kube-scheduler"}, usage: certificatesv1.UsageClientAuth,
	}
	asked := []*certificatesv1.CertificateSigningRequest{ask(t, node, serving), ask(t, user, proxy), ask(t, node, other)}
	// The last request is approved by rule: once it is answered, the ones before have had their turn.
	good := request{signer: certificatesv1.KubeletServingSignerName, subject: nodeName("n1"), usage: certificatesv1.UsageServerAuth, dns: []string{"n1"}}
	answer(t, cluster.Admin(), ask(t, node, good).Name)
	for _, r := range asked {
		now, err := client.Of[*certificatesv1.CertificateSigningRequest](cluster.Admin()).Get(t.Context(), "", r.Name)
		if err != nil {
			t.Fatal(err)
		}
		if len(now.Status.Conditions) > 0 {
			t.Errorf("%s by %s: %+v", now.Spec.SignerName, now.Spec.Username, now.Status.Conditions)
		}
	}
}

// TestSignerJudges approves a request by hand whose usages its signer does not give, and one with a lifetime.
func TestSignerJudges(t *testing.T) {
	c := testcluster.New(t).Admin()
	approve := func(r *certificatesv1.CertificateSigningRequest) {
		t.Helper()
		next := r.DeepCopy()
		next.Status.Conditions = append(next.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test",
		})
		if _, err := client.Of[*certificatesv1.CertificateSigningRequest](c).UpdateSub(t.Context(), "approval", next); err != nil {
			t.Fatal(err)
		}
	}
	seconds := int32(3600)
	brief := request{
		signer: certificatesv1.KubeAPIServerClientSignerName, subject: pkix.Name{CommonName: "me"}, usage: certificatesv1.UsageClientAuth, seconds: &seconds,
	}
	r := ask(t, c, brief)
	approve(r)
	cert, err := pki.ParseCert(answer(t, c, r.Name).Status.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if life := cert.NotAfter.Sub(cert.NotBefore); life != 65*time.Minute {
		t.Errorf("certificate lives %v, want an hour and the backdating", life)
	}
	wrong := brief
	wrong.usage = certificatesv1.UsageServerAuth
	r = ask(t, c, wrong)
	approve(r)
	last := answer(t, c, r.Name).Status.Conditions
	if got := last[len(last)-1]; got.Reason != "SignerValidationFailure" || got.Message != "invalid usage for client certificate: server auth" {
		t.Errorf("condition %+v", got)
	}
}
