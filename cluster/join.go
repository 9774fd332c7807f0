// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/internal/version"
	"kogge.dev/kogge/kinds/catalog"
)

// tokenPattern is what a bootstrap token looks like.
var tokenPattern = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)

// Names of a node's files in its keys folder.
const (
	identityName = "node"
	servingName  = "kubelet-serving"
	proxyName    = "kube-proxy"
	clusterFile  = "cluster.kubeconfig"
)

// agent joins a cluster, if this data folder has not yet, and runs a node.
func (m *machine) agent(ctx context.Context) error {
	if err := m.join(ctx); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	m.stages.done("joined")
	server, ca, err := m.clusterInfo()
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	kinds := catalog.New()
	connect := func(name, agent string) (*client.Client, error) {
		cert, err := tls.LoadX509KeyPair(filepath.Join(m.pkiDir(), name+".crt"), filepath.Join(m.pkiDir(), name+".key"))
		if err != nil {
			return nil, fmt.Errorf("load certificate: %w", err)
		}
		backend, err := client.NewHTTP(client.HTTPConfig{
			Server: server, UserAgent: agent + "/" + version.Kubernetes, Catalog: kinds,
			TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{cert}},
		})
		return client.New(backend, kinds), err
	}
	kubeletClient, err := connect(identityName, "kubelet")
	if err != nil {
		return err
	}
	networkClient, err := connect(proxyName, "kube-proxy")
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	if err := m.startRuntime(ctx, g); err != nil {
		return err
	}
	g.Go(func() error {
		config, err := m.nodeConfig()
		if err != nil {
			return err
		}
		if config.Serving, err = m.loadServing(); err != nil {
			return err
		}
		config.Kubelet, config.Reader, config.ClientCA = kubeletClient, networkClient, roots
		return m.runNode(ctx, config)
	})
	return g.Wait()
}

func (m *machine) loadServing() (tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(filepath.Join(m.pkiDir(), servingName+".crt"), filepath.Join(m.pkiDir(), servingName+".key"))
	if err != nil {
		return cert, fmt.Errorf("load certificate: %w", err)
	}
	return cert, nil
}

// requestServing gets the certificate of the kubelet's server by a signing request of the node, once.
func (m *machine) requestServing(ctx context.Context, byNode *client.Client) (tls.Certificate, error) {
	if err := os.MkdirAll(m.pkiDir(), 0o700); err != nil {
		return tls.Certificate{}, fmt.Errorf("make folder of keys: %w", err)
	}
	err := m.request(ctx, byNode, servingName, certificatesv1.KubeletServingSignerName, m.nodeSubject(), []string{m.Node.Name}, []netip.Addr{m.ip})
	if err != nil {
		return tls.Certificate{}, err
	}
	return m.loadServing()
}

// nodeSubject is a node's identity in certificates.
func (m *machine) nodeSubject() pkix.Name {
	return pkix.Name{CommonName: "system:node:" + m.Node.Name, Organization: []string{"system:nodes"}}
}

// join gets trust and certificates. Each step leaves a file, so that an interrupted join goes on where it was.
func (m *machine) join(ctx context.Context) error {
	if err := os.MkdirAll(m.pkiDir(), 0o700); err != nil {
		return fmt.Errorf("make folder of keys: %w", err)
	}
	if m.complete() {
		return nil
	}
	parts := tokenPattern.FindStringSubmatch(m.Join.Token)
	switch {
	case m.Join.Server == "":
		return errors.New("join.server is not set: give --server https://host:6443")
	case parts == nil:
		return errors.New("join.token is not a token like abcdef.0123456789abcdef; 'kogge token create' on a server makes one")
	}
	ca, err := discover(ctx, m.Join.Server, parts[1], parts[2])
	if err != nil {
		return err
	}
	kinds := catalog.New()
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	backend := func(cert *tls.Certificate) (*client.Client, error) {
		config := client.HTTPConfig{
			Server: m.Join.Server, UserAgent: "kogge-agent/" + version.Kubernetes, Catalog: kinds,
			TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		}
		if cert != nil {
			config.TLS.Certificates = []tls.Certificate{*cert}
		} else {
			config.Token = func() (string, error) { return m.Join.Token, nil }
		}
		b, err := client.NewHTTP(config)
		return client.New(b, kinds), err
	}
	byToken, err := backend(nil)
	if err != nil {
		return err
	}
	if err := m.request(ctx, byToken, identityName, certificatesv1.KubeAPIServerClientKubeletSignerName, m.nodeSubject(), nil, nil); err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(m.pkiDir(), identityName+".crt"), filepath.Join(m.pkiDir(), identityName+".key"))
	if err != nil {
		return err
	}
	byNode, err := backend(&cert)
	if err != nil {
		return err
	}
	if _, err := m.requestServing(ctx, byNode); err != nil {
		return err
	}
	proxy := pkix.Name{CommonName: control.NodeNetworkUser}
	if err := m.request(ctx, byNode, proxyName, certificatesv1.KubeAPIServerClientSignerName, proxy, nil, nil); err != nil {
		return err
	}
	return writeKubeconfig(filepath.Join(m.pkiDir(), clusterFile), m.Join.Server, ca, "node", pki.Pair{Cert: ca, Key: cert.PrivateKey.(crypto.Signer)})
}

// complete reports whether everything that a join leaves is there.
func (m *machine) complete() bool {
	for _, name := range []string{clusterFile, identityName + ".crt", servingName + ".crt", proxyName + ".crt"} {
		if _, err := os.Stat(filepath.Join(m.pkiDir(), name)); err != nil {
			return false
		}
	}
	return true
}

// clusterInfo reads what the join learnt.
func (m *machine) clusterInfo() (server string, ca *x509.Certificate, err error) {
	text, err := os.ReadFile(filepath.Join(m.pkiDir(), clusterFile))
	if err != nil {
		return "", nil, err
	}
	return parseClusterInfo(text)
}

func parseClusterInfo(text []byte) (server string, ca *x509.Certificate, err error) {
	var k kubeconfig
	if err := yaml.Unmarshal(text, &k); err != nil {
		return "", nil, fmt.Errorf("cluster info: %w", err)
	}
	if len(k.Clusters) == 0 {
		return "", nil, errors.New("cluster info names no cluster")
	}
	raw, err := base64.StdEncoding.DecodeString(k.Clusters[0].Cluster.CA)
	if err != nil {
		return "", nil, fmt.Errorf("cluster info: certificate-authority-data: %w", err)
	}
	ca, err = pki.ParseCert(raw)
	if err != nil {
		return "", nil, fmt.Errorf("cluster info: certificate-authority-data %w", err)
	}
	return k.Clusters[0].Cluster.Server, ca, nil
}

// discover finds the cluster's certificate authority as kubeadm does: the public ConfigMap kube-public/cluster-info is read
// without trust, and believed because it is signed with the token's secret, which only the cluster and the joiner know.
func discover(ctx context.Context, server, id, secret string) (*x509.Certificate, error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}} // judged by the signature
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(server, "/")+"/api/v1/namespaces/kube-public/configmaps/cluster-info", nil)
	if err != nil {
		return nil, fmt.Errorf("join.server %q is not a URL: %w", server, err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("reach %s: %w", server, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read cluster info: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s does not publish cluster info: %s", server, resp.Status)
	}
	var info corev1.ConfigMap
	if err := json.Unmarshal(body, &info); err != nil {
		return nil, fmt.Errorf("read cluster info: %w", err)
	}
	signature, ok := info.Data["jws-kubeconfig-"+id]
	if !ok {
		return nil, fmt.Errorf("token %s is not known to the cluster, or has expired", id)
	}
	if err := verify(signature, info.Data["kubeconfig"], id, secret); err != nil {
		return nil, err
	}
	_, ca, err := parseClusterInfo([]byte(info.Data["kubeconfig"]))
	return ca, err
}

// verify checks a detached signature (JWS, HMAC) of content by the token's secret.
func verify(signature, content, id, secret string) error {
	parts := strings.Split(signature, ".")
	if len(parts) != 3 || parts[1] != "" {
		return errors.New("the cluster info's signature is malformed")
	}
	encode := base64.RawURLEncoding
	raw, err := encode.DecodeString(parts[0])
	if err != nil {
		return fmt.Errorf("the cluster info's signature is malformed: %w", err)
	}
	var header struct {
		Algorithm string `json:"alg"`
		Key       string `json:"kid"`
	}
	if err := json.Unmarshal(raw, &header); err != nil || header.Algorithm != "HS256" {
		return errors.New("the cluster info's signature is malformed")
	}
	if header.Key != id {
		return errors.New("the cluster info is signed with another token")
	}
	// Tokens' secrets are shorter than what JOSE libraries allow as keys, so the code is computed here.
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(parts[0] + "." + encode.EncodeToString([]byte(content))))
	got, err := encode.DecodeString(parts[2])
	if err != nil || !hmac.Equal(got, mac.Sum(nil)) {
		return errors.New("the cluster info is not signed with this token: the token is wrong, or the server is not the cluster's")
	}
	return nil
}

// request gets one certificate by a signing request, unless its file is there already.
func (m *machine) request(ctx context.Context, c *client.Client, name, signer string, subject pkix.Name, dns []string, ips []netip.Addr) error {
	certPath, keyPath := filepath.Join(m.pkiDir(), name+".crt"), filepath.Join(m.pkiDir(), name+".key")
	if _, err := os.Stat(certPath); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.CertificateRequest{Subject: subject, DNSNames: dns}
	for _, ip := range ips {
		template.IPAddresses = append(template.IPAddresses, net.IP(ip.AsSlice()))
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return err
	}
	usage := certificatesv1.UsageClientAuth
	if len(dns) > 0 {
		usage = certificatesv1.UsageServerAuth
	}
	csr := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "node-csr-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: signer, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, usage},
		},
	}
	created, err := client.Of[*certificatesv1.CertificateSigningRequest](c).Create(ctx, csr)
	if err != nil {
		return fmt.Errorf("ask for certificate %s: %w", name, err)
	}
	cert, err := awaitCertificate(ctx, c, created.Name)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", name, err)
	}
	encoded, err := pki.EncodeKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(keyPath, encoded, 0o600); err != nil {
		return err
	}
	return os.WriteFile(certPath, cert, 0o644)
}

// awaitCertificate waits until a signing request is answered.
func awaitCertificate(ctx context.Context, c *client.Client, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	requests := client.Of[*certificatesv1.CertificateSigningRequest](c)
	for {
		csr, err := requests.Get(ctx, "", name)
		if err != nil {
			return nil, err
		}
		for _, condition := range csr.Status.Conditions {
			if condition.Type == certificatesv1.CertificateDenied || condition.Type == certificatesv1.CertificateFailed {
				return nil, fmt.Errorf("request %s was refused: %s", name, condition.Message)
			}
		}
		if len(csr.Status.Certificate) > 0 {
			return csr.Status.Certificate, nil
		}
		// A joining node may not watch requests; it may read its own.
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("request %s waits for approval: kubectl certificate approve %s", name, name)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
