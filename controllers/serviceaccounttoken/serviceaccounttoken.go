// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package serviceaccounttoken fills secrets of type kubernetes.io/service-account-token, by which users ask for a token without
// an end, and deletes them with their service account.
package serviceaccounttoken

import (
	"bytes"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

// Sign makes the token of a secret for a service account.
type Sign func(secret *corev1.Secret, account *corev1.ServiceAccount) (string, error)

const secretsByAccount = "token secrets by service account"

type controller struct {
	reconcile.Scope
	sign     Sign
	rootCA   []byte
	accounts *client.Informer[*corev1.ServiceAccount]
	secrets  *client.Informer[*corev1.Secret]
	api      client.Resource[*corev1.Secret]
}

// New makes the loop; its keys are secrets. RootCA is what clients trust, in PEM.
func New(scope reconcile.Scope, sign Sign, rootCA []byte) *reconcile.Loop {
	c := &controller{
		Scope: scope, sign: sign, rootCA: rootCA, accounts: client.InformerFor[*corev1.ServiceAccount](scope.Informers),
		secrets: client.InformerFor[*corev1.Secret](scope.Informers, client.Selection{FieldSelector: "type=" + string(corev1.SecretTypeServiceAccountToken)}),
		api:     client.Of[*corev1.Secret](scope.Client),
	}
	c.secrets.AddIndex(secretsByAccount, func(s *corev1.Secret) []string {
		return []string{s.Namespace + "/" + s.Annotations[corev1.ServiceAccountNameKey]}
	})
	loop := reconcile.New(reconcile.Config{
		Name: "serviceaccount-token-controller", Log: scope.Log, Workers: 5, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	reconcile.Self(loop, c.secrets)
	reconcile.On(loop, c.accounts, func(a *corev1.ServiceAccount) []reconcile.Key {
		var keys []reconcile.Key
		for _, s := range c.secrets.ByIndex(secretsByAccount, reconcile.KeyOf(a).String()) {
			keys = append(keys, reconcile.KeyOf(s))
		}
		return keys
	})
	return loop
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	secret, ok := c.secrets.Get(key.Namespace, key.Name)
	if !ok || secret.DeletionTimestamp != nil || secret.Annotations[corev1.ServiceAccountNameKey] == "" {
		return nil
	}
	account, err := c.account(ctx, secret)
	if err != nil {
		return err
	}
	if account == nil {
		err := c.api.Delete(ctx, key.Namespace, key.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &secret.UID}})
		if apierrors.IsConflict(err) {
			return nil // another one by now
		}
		return client.IgnoreNotFound(err)
	}
	next := secret.DeepCopy()
	if next.Data == nil {
		next.Data = map[string][]byte{}
	}
	if len(next.Data[corev1.ServiceAccountTokenKey]) == 0 {
		token, err := c.sign(secret, account)
		if err != nil {
			return fmt.Errorf("sign token of secret %s: %w", key, err)
		}
		next.Data[corev1.ServiceAccountTokenKey] = []byte(token)
	}
	next.Data[corev1.ServiceAccountRootCAKey] = c.rootCA
	next.Data[corev1.ServiceAccountNamespaceKey] = []byte(secret.Namespace)
	next.Annotations[corev1.ServiceAccountUIDKey] = string(account.UID)
	if secret.Annotations[corev1.ServiceAccountUIDKey] == string(account.UID) && same(secret.Data, next.Data) {
		return nil
	}
	_, err = c.api.Update(ctx, next)
	return client.IgnoreNotFound(err)
}

func same(a, b map[string][]byte) bool {
	for key, value := range b {
		if !bytes.Equal(a[key], value) {
			return false
		}
	}
	return len(a) == len(b)
}

// account returns the secret's service account; nil when it is gone for certain, or another one of the same name.
func (c *controller) account(ctx context.Context, secret *corev1.Secret) (*corev1.ServiceAccount, error) {
	name, uid := secret.Annotations[corev1.ServiceAccountNameKey], secret.Annotations[corev1.ServiceAccountUIDKey]
	matches := func(a *corev1.ServiceAccount) bool { return uid == "" || uid == string(a.UID) }
	if a, ok := c.accounts.Get(secret.Namespace, name); ok && matches(a) {
		return a, nil
	}
	// The informer may lag behind an account that was just made: ask before anything is deleted.
	a, err := client.Of[*corev1.ServiceAccount](c.Client).Get(ctx, secret.Namespace, name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	case !matches(a):
		return nil, nil
	}
	return a, nil
}
