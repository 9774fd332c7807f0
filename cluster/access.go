// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/cluster/node"
	"kogge.dev/kogge/cri/containerd"
	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/internal/version"
	"kogge.dev/kogge/kinds/catalog"
)

// AdminKubeconfig is the administrator's kubeconfig of a data folder.
func AdminKubeconfig(dataDir string) string { return filepath.Join(dataDir, "admin.kubeconfig") }

// kubeconfig is the part of a kubeconfig file that kogge writes and reads.
type kubeconfig struct {
	APIVersion     string         `json:"apiVersion"`
	Kind           string         `json:"kind"`
	Clusters       []namedCluster `json:"clusters"`
	Users          []namedUser    `json:"users"`
	Contexts       []namedContext `json:"contexts"`
	CurrentContext string         `json:"current-context"`
}

type namedCluster struct {
	Name    string `json:"name"`
	Cluster struct {
		Server string `json:"server"`
		CA     string `json:"certificate-authority-data,omitempty"`
	} `json:"cluster"`
}

type namedUser struct {
	Name string `json:"name"`
	User struct {
		Cert  string `json:"client-certificate-data,omitempty"`
		Key   string `json:"client-key-data,omitempty"`
		Token string `json:"token,omitempty"`
	} `json:"user"`
}

type namedContext struct {
	Name    string `json:"name"`
	Context struct {
		Cluster string `json:"cluster"`
		User    string `json:"user"`
	} `json:"context"`
}

// writeKubeconfig writes a file that only its owner can read.
func writeKubeconfig(path, server string, ca *x509.Certificate, user string, pair pki.Pair) error {
	key, err := pair.KeyPEM()
	if err != nil {
		return err
	}
	k := kubeconfig{
		APIVersion: "v1", Kind: "Config", CurrentContext: "kogge",
		Clusters: make([]namedCluster, 1), Users: make([]namedUser, 1), Contexts: make([]namedContext, 1),
	}
	k.Clusters[0].Name, k.Clusters[0].Cluster.Server = "kogge", server
	k.Clusters[0].Cluster.CA = base64.StdEncoding.EncodeToString(pki.EncodeCert(ca.Raw))
	k.Users[0].Name = user
	k.Users[0].User.Cert = base64.StdEncoding.EncodeToString(pair.CertPEM())
	k.Users[0].User.Key = base64.StdEncoding.EncodeToString(key)
	k.Contexts[0].Name, k.Contexts[0].Context.Cluster, k.Contexts[0].Context.User = "kogge", "kogge", user
	text, err := yaml.Marshal(k)
	if err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, text, 0o600); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return os.Rename(temp, path)
}

func (m *machine) writeAdmin(keys control.Keys, advertise netip.Addr) error {
	pair, err := keys.CA.Ensure(pki.Leaf{Name: "admin", User: "kubernetes-admin", Groups: []string{"system:masters"}})
	if err != nil {
		return err
	}
	server := "https://" + net.JoinHostPort(advertise.String(), strconv.Itoa(m.API.Port))
	return writeKubeconfig(AdminKubeconfig(m.DataDir), server, keys.CA.Cert, "kubernetes-admin", pair)
}

// connect returns a client from a kubeconfig file, and the server's URL.
func connect(path string) (*client.Client, *client.HTTP, string, error) {
	k, config, err := readKubeconfig(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, "", fmt.Errorf("%w; is there a cluster? 'kogge up' starts one", err)
	}
	if err != nil {
		return nil, nil, "", err
	}
	kinds := catalog.New()
	http := client.HTTPConfig{Server: k.Clusters[0].Cluster.Server, TLS: config, UserAgent: "kogge/" + version.Kubernetes, Catalog: kinds}
	if token := k.Users[0].User.Token; token != "" {
		http.Token = func() (string, error) { return token, nil }
	}
	backend, err := client.NewHTTP(http)
	if err != nil {
		return nil, nil, "", err
	}
	return client.New(backend, kinds), backend, http.Server, nil
}

// readKubeconfig reads a kubeconfig file's first cluster and user.
func readKubeconfig(path string) (*kubeconfig, *tls.Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	var k kubeconfig
	if err := yaml.Unmarshal(text, &k); err != nil {
		return nil, nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	if len(k.Clusters) == 0 || len(k.Users) == 0 {
		return nil, nil, fmt.Errorf("kubeconfig %s: has no cluster or no user", path)
	}
	config, err := k.tls()
	if err != nil {
		return nil, nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return &k, config, nil
}

// authorityOf returns the certificate authority that a kubeconfig trusts, in PEM.
func authorityOf(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	_, ca, err := parseClusterInfo(text)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return pki.EncodeCert(ca.Raw), nil
}

func (k *kubeconfig) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if k.Clusters[0].Cluster.CA != "" {
		ca, err := base64.StdEncoding.DecodeString(k.Clusters[0].Cluster.CA)
		if err != nil {
			return nil, fmt.Errorf("certificate-authority-data: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("certificate-authority-data: holds no certificate")
		}
	}
	user := k.Users[0].User
	if user.Cert == "" {
		return config, nil
	}
	cert, err := base64.StdEncoding.DecodeString(user.Cert)
	if err != nil {
		return nil, fmt.Errorf("client-certificate-data: %w", err)
	}
	key, err := base64.StdEncoding.DecodeString(user.Key)
	if err != nil {
		return nil, fmt.Errorf("client-key-data: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// Token describes a bootstrap token.
type Token struct{ ID, Expires, Usages string }

const (
	tokenPrefix    = "bootstrap-token-"
	tokenNamespace = "kube-system"
	tokenType      = "bootstrap.kubernetes.io/token"
	tokenGroup     = "system:bootstrappers:kubeadm:default-node-token"
)

// CreateToken makes a token that a node can join with for as long as ttl (0 means for ever), and returns it with the
// server's URL.
func CreateToken(ctx context.Context, settings Settings, ttl time.Duration) (token, server string, err error) {
	c, _, server, err := connect(AdminKubeconfig(settings.DataDir))
	if err != nil {
		return "", "", err
	}
	id, secret := randomText(6), randomText(16)
	data := map[string]string{
		"token-id": id, "token-secret": secret, "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
		"auth-extra-groups": tokenGroup,
	}
	if ttl > 0 {
		data["expiration"] = time.Now().Add(ttl).UTC().Format(time.RFC3339)
	}
	_, err = client.Of[*corev1.Secret](c).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: tokenNamespace, Name: tokenPrefix + id}, Type: tokenType, StringData: data,
	})
	return id + "." + secret, server, err
}

// randomText draws from the letters that bootstrap tokens are made of.
func randomText(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	out := make([]byte, 0, n)
	for len(out) < n {
		var b [1]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		if int(b[0]) < 256-256%len(letters) {
			out = append(out, letters[int(b[0])%len(letters)])
		}
	}
	return string(out)
}

// ListTokens lists the tokens.
func ListTokens(ctx context.Context, settings Settings) ([]Token, error) {
	c, _, _, err := connect(AdminKubeconfig(settings.DataDir))
	if err != nil {
		return nil, err
	}
	list, err := client.Of[*corev1.Secret](c).List(ctx, tokenNamespace, metav1.ListOptions{FieldSelector: "type=" + tokenType})
	if err != nil {
		return nil, err
	}
	var out []Token
	for _, s := range list.Items {
		t := Token{ID: string(s.Data["token-id"]), Expires: "never"}
		if at := string(s.Data["expiration"]); at != "" {
			t.Expires = at
		}
		var usages []string
		for _, usage := range []string{"authentication", "signing"} {
			if string(s.Data["usage-bootstrap-"+usage]) == "true" {
				usages = append(usages, usage)
			}
		}
		t.Usages = strings.Join(usages, ",")
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Token) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// DeleteToken deletes a token by its id, or by the whole token.
func DeleteToken(ctx context.Context, settings Settings, id string) error {
	c, _, _, err := connect(AdminKubeconfig(settings.DataDir))
	if err != nil {
		return err
	}
	id, _, _ = strings.Cut(id, ".")
	return client.Of[*corev1.Secret](c).Delete(ctx, tokenNamespace, tokenPrefix+id, metav1.DeleteOptions{})
}

// runtimeSocket is where this machine's container runtime is reached.
func runtimeSocket(settings Settings) string {
	if settings.Node.CRISocket != "" {
		return settings.Node.CRISocket
	}
	return node.Containerd(node.PathsOf(settings.DataDir, DefaultDataDir), nodeOf(settings), nil).Socket()
}

// runtimeRuns explains why the runtime can't be reached where that is known at once.
func runtimeRuns(settings Settings) error {
	if settings.Node.CRISocket != "" {
		return nil
	}
	state, err := containerd.Inspect(node.Containerd(node.PathsOf(settings.DataDir, DefaultDataDir), nodeOf(settings), nil))
	if err == nil && state.PID == 0 {
		return fmt.Errorf("no container runtime runs for %s; 'kogge up' starts a cluster with one", settings.DataDir)
	}
	return err
}

// ImportImages reads an archive into this machine's node and returns the names of its images.
func ImportImages(ctx context.Context, settings Settings, archive io.Reader) ([]string, error) {
	if err := runtimeRuns(settings); err != nil {
		return nil, err
	}
	images, err := containerd.Import(ctx, runtimeSocket(settings), archive)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, i := range images {
		names = append(names, i.Name)
	}
	return names, nil
}

// ListImages lists the images of this machine's node.
func ListImages(ctx context.Context, settings Settings) ([]containerd.Image, error) {
	if err := runtimeRuns(settings); err != nil {
		return nil, err
	}
	return containerd.Images(ctx, runtimeSocket(settings))
}
