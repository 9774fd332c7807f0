// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
)

// Times of the tokens of controllers' service accounts.
const (
	accountTokenLife = time.Hour
	accountAskLimit  = 10 * time.Second
)

// accounts makes the clients of controllers that act as service accounts of kube-system, as upstream's controller manager does
// with --use-service-account-credentials. They share one connection; each has a token of its own, asked for when it is first
// needed and again when a fifth of its life is left.
type accounts struct {
	server  *kubeconfigFile
	manager *client.Client
	trip    http.RoundTripper // carries no identity
}

func newAccounts(server *kubeconfigFile, manager *client.Client) (*accounts, error) {
	trip, err := server.anonymous()
	return &accounts{server: server, manager: manager, trip: trip}, err
}

// client returns the client of one service account.
func (a *accounts) client(name string) *client.Client {
	token := &accountToken{manager: a.manager, name: name}
	return a.server.over(a.trip, "kogge-controllers/"+name, token.get)
}

// accountToken is the token of one service account.
type accountToken struct {
	manager *client.Client
	name    string

	mu    sync.Mutex
	token string
	renew time.Time
}

func (t *accountToken) get() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Now().Before(t.renew) {
		return t.token, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), accountAskLimit) // one request's context must not end another's token
	defer cancel()
	token, expires, err := t.ask(ctx)
	switch {
	case err == nil:
		t.token, t.renew = token, time.Now().Add(time.Until(expires)*4/5)
	case t.token == "":
		return "", fmt.Errorf("token of service account %s/%s: %w", metav1.NamespaceSystem, t.name, err)
	default:
		t.renew = time.Now().Add(accountAskLimit) // the old one may be good for a while
	}
	return t.token, nil
}

// ask gets a new token, of an account that is made if it does not exist.
func (t *accountToken) ask(ctx context.Context) (token string, expires time.Time, err error) {
	resource := client.Of[*corev1.ServiceAccount](t.manager)
	seconds := int64(accountTokenLife / time.Second)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	answer, err := resource.Post(ctx, metav1.NamespaceSystem, t.name, "token", request)
	if apierrors.IsNotFound(err) {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: t.name}}
		if _, err := resource.Create(ctx, account); err != nil && !apierrors.IsAlreadyExists(err) {
			return "", time.Time{}, err
		}
		answer, err = resource.Post(ctx, metav1.NamespaceSystem, t.name, "token", request)
	}
	if err != nil {
		return "", time.Time{}, err
	}
	granted, ok := answer.(*authenticationv1.TokenRequest)
	if !ok || granted.Status.Token == "" {
		return "", time.Time{}, errors.New("the answer holds no token")
	}
	return granted.Status.Token, granted.Status.ExpirationTimestamp.Time, nil
}
