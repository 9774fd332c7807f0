// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

func configMap() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:     "configmaps",
		Singular:     "configmap",
		ShortNames:   []string{"cm"},
		Namespaced:   true,
		NoGeneration: true,
		Storage:      kinds.Storage{Prefix: "configmaps"},
	}, version.WithKind("ConfigMap"),
		func() *corev1.ConfigMap { return &corev1.ConfigMap{} },
		func() runtime.Object { return &corev1.ConfigMapList{} },
		kinds.Strategy[*corev1.ConfigMap]{
			Default:        defaultConfigMap,
			Validate:       validateConfigMap,
			ValidateUpdate: validateConfigMapUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("Data", corev1.ConfigMap{}.SwaggerDoc()["data"]),
				table.Age(),
			},
			Row: func(cm *corev1.ConfigMap, now time.Time) []any {
				return []any{cm.Name, int64(len(cm.Data) + len(cm.BinaryData)), table.Since(cm.CreationTimestamp, now)}
			},
		})
}

func defaultConfigMap(cm *corev1.ConfigMap) {
	if cm.Data == nil {
		cm.Data = map[string]string{}
	}
}
