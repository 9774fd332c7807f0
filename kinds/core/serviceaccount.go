// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

// mountableSecrets is the annotation that limits which secrets a service account's pods may mount.
const mountableSecrets = "kubernetes.io/enforce-mountable-secrets"

func serviceAccount() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "serviceaccounts",
		Singular:       "serviceaccount",
		AnswersDeleted: true,
		ShortNames:     []string{"sa"},
		Namespaced:     true,
		NoGeneration:   true,
		Storage:        kinds.Storage{Prefix: "serviceaccounts"},
		Subresources: []kinds.Subresource{{
			Name:             "token",
			Verbs:            []string{"create"},
			GroupVersionKind: authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"),
			New:              func() kinds.Object { return &authenticationv1.TokenRequest{} },
			Default:          defaultTokenRequest,
			Connect:          true,
		}},
	}, version.WithKind("ServiceAccount"),
		func() *corev1.ServiceAccount { return &corev1.ServiceAccount{} },
		func() runtime.Object { return &corev1.ServiceAccountList{} },
		kinds.Strategy[*corev1.ServiceAccount]{
			PrepareCreate: func(_ kinds.Request, sa *corev1.ServiceAccount) { keepSecretNames(sa) },
			PrepareUpdate: func(_ kinds.Request, new, _ *corev1.ServiceAccount) { keepSecretNames(new) },
			Warn:          warnServiceAccount,
			Columns:       []metav1.TableColumnDefinition{table.Name(), table.Age()},
			Row: func(sa *corev1.ServiceAccount, now time.Time) []any {
				return []any{sa.Name, table.Since(sa.CreationTimestamp, now)}
			},
		})
}

// TokenSeconds is how long a token of a service account is good for when the request does not say.
const TokenSeconds = 60 * 60

func defaultTokenRequest(obj kinds.Object) {
	if r := obj.(*authenticationv1.TokenRequest); r.Spec.ExpirationSeconds == nil {
		r.Spec.ExpirationSeconds = new(int64(TokenSeconds))
	}
}

// keepSecretNames drops all but the names of the secrets that a service account refers to.
func keepSecretNames(sa *corev1.ServiceAccount) {
	for i := range sa.Secrets {
		sa.Secrets[i] = corev1.ObjectReference{Name: sa.Secrets[i].Name}
	}
}

func warnServiceAccount(_ kinds.Request, new, old *corev1.ServiceAccount) []string {
	if old != nil {
		if _, had := old.Annotations[mountableSecrets]; had {
			return nil
		}
	}
	if _, has := new.Annotations[mountableSecrets]; !has {
		return nil
	}
	return []string{fmt.Sprintf("metadata.annotations[%s]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets", mountableSecrets)}
}
