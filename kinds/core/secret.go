// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"crypto/tls"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

func secret() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:     "secrets",
		Singular:     "secret",
		Namespaced:   true,
		NoGeneration: true,
		Storage:      kinds.Storage{Prefix: "secrets"},
	}, version.WithKind("Secret"),
		func() *corev1.Secret { return &corev1.Secret{} },
		func() runtime.Object { return &corev1.SecretList{} },
		kinds.Strategy[*corev1.Secret]{
			Default: defaultSecret,
			PrepareUpdate: func(_ kinds.Request, new, old *corev1.Secret) {
				if new.Type == "" {
					new.Type = old.Type
				}
			},
			Validate:       validateSecret,
			ValidateUpdate: validateSecretUpdate,
			Warn:           warnSecret,
			Fields:         func(s *corev1.Secret) fields.Set { return fields.Set{"type": string(s.Type)} },
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("Type", corev1.Secret{}.SwaggerDoc()["type"]),
				table.Text("Data", corev1.Secret{}.SwaggerDoc()["data"]),
				table.Age(),
			},
			Row: func(s *corev1.Secret, now time.Time) []any {
				return []any{s.Name, string(s.Type), int64(len(s.Data)), table.Since(s.CreationTimestamp, now)}
			},
		})
}

// defaultSecret also moves stringData, which clients only write, into data.
func defaultSecret(s *corev1.Secret) {
	if len(s.StringData) > 0 {
		if s.Data == nil {
			s.Data = make(map[string][]byte, len(s.StringData))
		}
		for key, value := range s.StringData {
			s.Data[key] = []byte(value)
		}
	}
	s.StringData = nil
	if s.Type == "" {
		s.Type = corev1.SecretTypeOpaque
	}
}

// warnSecret says why a certificate and its key do not fit together.
func warnSecret(_ kinds.Request, s, _ *corev1.Secret) []string {
	if s.Type != corev1.SecretTypeTLS {
		return nil
	}
	if _, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]); err != nil {
		return []string{err.Error()}
	}
	return nil
}
