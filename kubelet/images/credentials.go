// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// dockerAuth is one registry's entry in a docker configuration.
type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
}

// credential is one registry's entry in a pull secret.
type credential struct {
	key    string // the registry
	auth   *runtimeapi.AuthConfig
	secret *corev1.Secret
}

// secretRef names the credential in records of pulls.
func (c *credential) secretRef() kubeletconfig.ImagePullSecret {
	return kubeletconfig.ImagePullSecret{UID: string(c.secret.UID), Namespace: c.secret.Namespace, Name: c.secret.Name, CredentialHash: hashOf(c.auth)}
}

// lookup returns the credentials in pull secrets that fit an image, the most specific first.
func lookup(secrets []*corev1.Secret, image string) []credential {
	var found []credential
	for _, s := range secrets {
		for key, entry := range dockerAuths(s) {
			if matches(key, image) {
				found = append(found, credential{key, entry.config(), s})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b credential) int {
		if d := len(b.key) - len(a.key); d != 0 {
			return d
		}
		return strings.Compare(a.key, b.key)
	})
	return found
}

func dockerAuths(s *corev1.Secret) map[string]dockerAuth {
	if data, ok := s.Data[corev1.DockerConfigJsonKey]; ok && s.Type == corev1.SecretTypeDockerConfigJson {
		var file struct {
			Auths map[string]dockerAuth `json:"auths"`
		}
		if json.Unmarshal(data, &file) == nil {
			return file.Auths
		}
	}
	if data, ok := s.Data[corev1.DockerConfigKey]; ok && s.Type == corev1.SecretTypeDockercfg {
		var auths map[string]dockerAuth
		if json.Unmarshal(data, &auths) == nil {
			return auths
		}
	}
	return nil
}

func (a dockerAuth) config() *runtimeapi.AuthConfig {
	out := &runtimeapi.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken}
	if a.Auth != "" && out.Username == "" {
		if plain, err := base64.StdEncoding.DecodeString(a.Auth); err == nil {
			out.Username, out.Password, _ = strings.Cut(string(plain), ":")
		}
	}
	return out
}

// matches reports whether a registry key ("registry:5000/path", with * in host labels) covers an image.
func matches(key, image string) bool {
	wantHost, wantPath := split(key)
	host, imagePath := split(qualify(image))
	if wantHost == "index.docker.io" || wantHost == "registry-1.docker.io" {
		wantHost = "docker.io"
		wantPath = ""
	}
	return hostMatches(wantHost, host) && (wantPath == "" || imagePath == wantPath || strings.HasPrefix(imagePath, strings.TrimSuffix(wantPath, "/")+"/"))
}

func split(s string) (host, rest string) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", ""
	}
	rest = strings.Trim(u.Path, "/")
	if rest == "v1" || rest == "v2" {
		rest = ""
	}
	return u.Host, rest
}

// qualify completes an image name by the default registry.
func qualify(image string) string {
	name, _, _ := strings.Cut(image, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	first, _, ok := strings.Cut(name, "/")
	if !ok {
		return "docker.io/library/" + name
	}
	if !strings.ContainsAny(first, ".:") && first != "localhost" {
		return "docker.io/" + name
	}
	return name
}

func hostMatches(pattern, host string) bool {
	patternName, patternPort, _ := strings.Cut(pattern, ":")
	name, port, _ := strings.Cut(host, ":")
	if patternPort != "" && patternPort != port {
		return false
	}
	a, b := strings.Split(patternName, "."), strings.Split(name, ".")
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if ok, err := path.Match(a[i], b[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
