// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
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
)

// AdminKubeconfig is the administrator's kubeconfig of a data folder.
func AdminKubeconfig(dataDir string) string { return filepath.Join(dataDir, "admin.kubeconfig") }

// kubeconfig is the part of a kubeconfig file that kogge writes, and that a cluster publishes for those who join.
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
	text, err := encodeKubeconfig(server, ca, user, pair)
	if err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, text, 0o600); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return os.Rename(temp, path)
}

func encodeKubeconfig(server string, ca *x509.Certificate, user string, pair pki.Pair) ([]byte, error) {
	key, err := pair.KeyPEM()
	if err != nil {
		return nil, err
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
	return yaml.Marshal(k)
}

// IssueKubeconfig makes a client certificate for a user of the cluster of a data folder and returns a kubeconfig with it: the
// identity of a component that runs alone, kogge's or upstream's.
func IssueKubeconfig(settings Settings, user string, groups []string) ([]byte, error) {
	_, server, err := administrator(settings.DataDir)
	if err != nil {
		return nil, err
	}
	keys, err := control.OpenKeys(pkiDir(settings.DataDir))
	if err != nil {
		return nil, err
	}
	pair, err := keys.CA.Issue(pki.Leaf{Name: user, User: user, Groups: groups})
	if err != nil {
		return nil, err
	}
	return encodeKubeconfig(server.config.Host, keys.CA.Cert, user, pair)
}

func (m *machine) writeAdmin(keys control.Keys, advertise netip.Addr) error {
	pair, err := keys.CA.Ensure(pki.Leaf{Name: "admin", User: "kubernetes-admin", Groups: []string{"system:masters"}})
	if err != nil {
		return err
	}
	server := "https://" + net.JoinHostPort(advertise.String(), strconv.Itoa(m.API.Port))
	return writeKubeconfig(AdminKubeconfig(m.DataDir), server, keys.CA.Cert, "kubernetes-admin", pair)
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
	c, at, err := administrator(settings.DataDir)
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
	return id + "." + secret, at.config.Host, err
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
	c, _, err := administrator(settings.DataDir)
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
	c, _, err := administrator(settings.DataDir)
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
