// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package bootstrapsigner publishes how to reach and trust the cluster to those who want to join it: the ConfigMap
// kube-public/cluster-info, readable by everybody, signed with the secret of every bootstrap token that is meant for it.
package bootstrapsigner

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

const (
	mapName         = "cluster-info"
	contentKey      = "kubeconfig"
	signaturePrefix = "jws-kubeconfig-"
	tokenPrefix     = "bootstrap-token-"

	tokenType corev1.SecretType = "bootstrap.kubernetes.io/token"
)

type controller struct {
	maps    *client.Informer[*corev1.ConfigMap]
	tokens  *client.Informer[*corev1.Secret]
	api     client.Resource[*corev1.ConfigMap]
	content string
}

// New makes the loop; its only key is the ConfigMap. Server is the API server's URL for joining nodes and authority the
// certificate in PEM by which to trust it. With either empty the ConfigMap is signed, but not made.
func New(scope reconcile.Scope, server string, authority []byte) *reconcile.Loop {
	c := &controller{
		maps: client.InformerFor[*corev1.ConfigMap](scope.Informers),
		tokens: client.InformerFor[*corev1.Secret](scope.Informers, client.Selection{
			Namespace: metav1.NamespaceSystem, FieldSelector: "type=" + string(tokenType),
		}),
		api: client.Of[*corev1.ConfigMap](scope.Client),
	}
	if server != "" && len(authority) > 0 {
		c.content = kubeconfig(server, authority)
	}
	loop := reconcile.New(reconcile.Config{
		Name: "bootstrap-signer-controller", Log: scope.Log, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	key := reconcile.Key{Namespace: metav1.NamespacePublic, Name: mapName}
	reconcile.On(loop, c.maps, func(m *corev1.ConfigMap) []reconcile.Key {
		if reconcile.KeyOf(m) != key {
			return nil
		}
		return []reconcile.Key{key}
	})
	reconcile.On(loop, c.tokens, func(*corev1.Secret) []reconcile.Key { return []reconcile.Key{key} })
	loop.Enqueue(key)
	return loop
}

// kubeconfig is the published content: a cluster without a user.
func kubeconfig(server string, authority []byte) string {
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "", "contexts": nil, "users": nil,
		"clusters": []any{map[string]any{"name": "", "cluster": map[string]any{
			"server": server, "certificate-authority-data": base64.StdEncoding.EncodeToString(authority),
		}}},
	})
	if err != nil {
		return "" // maps of strings can be encoded
	}
	return string(text)
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	known, ok := c.maps.Get(key.Namespace, key.Name)
	if !ok {
		if c.content == "" {
			return nil
		}
		made := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Data: map[string]string{contentKey: c.content},
		}
		known, err := c.api.Create(ctx, made)
		if apierrors.IsAlreadyExists(err) {
			return nil // the informer will show it
		}
		if err != nil {
			return fmt.Errorf("publish cluster info: %w", err)
		}
		return c.sign(ctx, known)
	}
	return c.sign(ctx, known)
}

func (c *controller) sign(ctx context.Context, known *corev1.ConfigMap) error {
	content, ok := known.Data[contentKey]
	if !ok {
		return nil
	}
	data := map[string]string{}
	for k, v := range known.Data {
		if !strings.HasPrefix(k, signaturePrefix) {
			data[k] = v
		}
	}
	var soonest time.Time
	for token := range c.tokens.All() {
		id, secret, expires, ok := usable(token)
		if !ok {
			continue
		}
		signature, err := signDetached(content, id, secret)
		if err != nil {
			return err
		}
		data[signaturePrefix+id] = signature
		if !expires.IsZero() && (soonest.IsZero() || expires.Before(soonest)) {
			soonest = expires
		}
	}
	if !maps.Equal(data, known.Data) {
		next := known.DeepCopy()
		next.Data = data
		if _, err := c.api.Update(ctx, next); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("sign cluster info: %w", err)
		}
	}
	if !soonest.IsZero() {
		return reconcile.After(time.Until(soonest))
	}
	return nil
}

// usable returns the parts of a token that is for signing and has not expired; expires is zero for one that never does.
func usable(token *corev1.Secret) (id, secret string, expires time.Time, ok bool) {
	id, secret = string(token.Data["token-id"]), string(token.Data["token-secret"])
	if id == "" || secret == "" || token.Name != tokenPrefix+id || string(token.Data["usage-bootstrap-signing"]) != "true" {
		return "", "", time.Time{}, false
	}
	if text := string(token.Data["expiration"]); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil || !time.Now().Before(at) {
			return "", "", time.Time{}, false
		}
		expires = at
	}
	return id, secret, expires, true
}

// signDetached makes a JSON web signature (RFC 7515, HS256) whose payload is left out (appendix F).
func signDetached(content, id, secret string) (string, error) {
	header, err := json.Marshal(struct {
		Algorithm string `json:"alg"`
		Key       string `json:"kid"`
	}{"HS256", id})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(encode(header) + "." + encode([]byte(content))))
	return encode(header) + ".." + encode(mac.Sum(nil)), nil
}
