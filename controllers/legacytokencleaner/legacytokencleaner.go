// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package legacytokencleaner marks and deletes service account tokens in secrets that nobody has used for long. Tokens that were not made for
// the account itself, and those that pods mount, stay.
package legacytokencleaner

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/legacytoken"
	"kogge.dev/kogge/rules/podrefs"
)

// again is when a token is looked at once more that may become unused without a change of its own: a pod that mounts it may go.
const again = 24 * time.Hour

type controller struct {
	reconcile.Scope
	period   time.Duration
	secrets  *client.Informer[*corev1.Secret]
	accounts *client.Informer[*corev1.ServiceAccount]
	pods     *client.Informer[*corev1.Pod]
	api      client.Resource[*corev1.Secret]
}

// New makes the loop. A period without use is what it takes to mark a token, and one more to delete it: legacytoken.Period.
func New(scope reconcile.Scope, period time.Duration) *reconcile.Loop {
	c := &controller{
		Scope: scope, period: period, accounts: client.InformerFor[*corev1.ServiceAccount](scope.Informers),
		secrets: client.InformerFor[*corev1.Secret](scope.Informers, client.Selection{FieldSelector: "type=" + string(corev1.SecretTypeServiceAccountToken)}),
		pods:    client.InformerFor[*corev1.Pod](scope.Informers), api: client.Of[*corev1.Secret](scope.Client),
	}
	loop := reconcile.New(reconcile.Config{
		Name: "legacy-serviceaccount-token-cleaner-controller", Log: scope.Log, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	reconcile.Self(loop, c.secrets)
	reconcile.On(loop, c.accounts, func(a *corev1.ServiceAccount) []reconcile.Key {
		var keys []reconcile.Key
		for _, ref := range a.Secrets {
			keys = append(keys, reconcile.Key{Namespace: a.Namespace, Name: ref.Name})
		}
		return keys
	})
	return loop
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	secret, ok := c.secrets.Get(key.Namespace, key.Name)
	if !ok || secret.DeletionTimestamp != nil || !c.generated(secret) {
		return nil
	}
	tracking, err := client.Of[*corev1.ConfigMap](c.Client).Get(ctx, metav1.NamespaceSystem, legacytoken.TrackingName)
	if apierrors.IsNotFound(err) {
		c.Log.Warn("unused tokens are kept: nothing says since when their use is noted", "object", legacytoken.TrackingName)
		return reconcile.After(again)
	}
	if err != nil {
		return err
	}
	verdict, err := legacytoken.Judge(secret, tracking.Data[legacytoken.TrackingKey], c.period, time.Now())
	switch {
	case err != nil:
		c.Log.Warn("token is kept", "object", key, "err", err)
		return reconcile.After(again)
	case verdict.Action == legacytoken.Keep:
		return reconcile.After(verdict.After)
	case c.mounted(secret):
		return reconcile.After(again)
	case verdict.Action == legacytoken.Mark:
		return c.mark(ctx, secret)
	}
	c.Log.Info("delete unused service account token", "object", key, "created", secret.CreationTimestamp.Time,
		"last_used", secret.Labels[legacytoken.LastUsed], "invalid_since", secret.Labels[legacytoken.InvalidSince])
	err = c.api.Delete(ctx, key.Namespace, key.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &secret.ResourceVersion}})
	if apierrors.IsConflict(err) {
		return nil // it changed, and is judged anew
	}
	return client.IgnoreNotFound(err)
}

// generated reports whether a token is its account's own.
func (c *controller) generated(secret *corev1.Secret) bool {
	account, ok := c.accounts.Get(secret.Namespace, secret.Annotations[corev1.ServiceAccountNameKey])
	if !ok {
		return false
	}
	uid := secret.Annotations[corev1.ServiceAccountUIDKey]
	return (uid == "" || uid == string(account.UID)) && legacytoken.Generated(account, secret.Name)
}

func (c *controller) mounted(secret *corev1.Secret) bool {
	return slices.ContainsFunc(c.pods.List(secret.Namespace), func(p *corev1.Pod) bool { return podrefs.Names(p, podrefs.Secrets, secret.Name) })
}

// mark labels a token; whoever uses it from now on is refused, and told how to get it back.
func (c *controller) mark(ctx context.Context, secret *corev1.Secret) error {
	today := legacytoken.Day(time.Now())
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": secret.UID, "labels": map[string]string{legacytoken.InvalidSince: today},
	}})
	if err != nil {
		return err
	}
	c.Log.Info("mark unused service account token as invalid", "object", reconcile.KeyOf(secret), "invalid_since", today)
	if _, err := c.api.Patch(ctx, secret.Namespace, secret.Name, types.MergePatchType, patch); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("mark token: %w", err))
	}
	return nil
}
