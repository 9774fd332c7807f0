// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/objectmeta"
)

// service describes Services. Cluster IPs, node ports and the fields that follow from them (ipFamilies, ipFamilyPolicy) are
// filled in by the API server after PrepareCreate or PrepareUpdate and before validation.
func service() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "services",
		Singular:       "service",
		AnswersDeleted: true,
		ShortNames:     []string{"svc"},
		Categories:     all(),
		Namespaced:     true,
		NoGeneration:   true,
		CreateOnUpdate: true,
		ValidateName:   objectmeta.Label,
		Storage:        kinds.Storage{Prefix: "services/specs"},
		Subresources: []kinds.Subresource{
			{
				Name:             "proxy",
				Verbs:            proxyVerbs(),
				GroupVersionKind: version.WithKind("ServiceProxyOptions"),
				Connect:          true,
			},
			serviceStatus(),
		},
	}, version.WithKind("Service"),
		func() *corev1.Service { return &corev1.Service{} },
		func() runtime.Object { return &corev1.ServiceList{} },
		kinds.Strategy[*corev1.Service]{
			Default: defaultService,
			Read:    readService,
			PrepareCreate: func(_ kinds.Request, s *corev1.Service) {
				s.Status = corev1.ServiceStatus{}
				pairClusterIPs(s, nil)
			},
			PrepareUpdate:  prepareService,
			Validate:       validateService,
			ValidateUpdate: validateServiceUpdate,
			Warn:           warnService,
			Fields: func(s *corev1.Service) fields.Set {
				return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
			},
			Columns: serviceColumns(),
			Row:     serviceRow,
		})
}

func serviceStatus() kinds.Subresource {
	status := kinds.Status(
		func(_ kinds.Request, new, old *corev1.Service) { new.Spec = old.Spec },
		validateServiceStatus,
	)
	status.Warn = func(_ kinds.Request, new, _ kinds.Object) []string {
		var warnings []string
		path := field.NewPath("status", "loadBalancer", "ingress")
		for i, ingress := range new.(*corev1.Service).Status.LoadBalancer.Ingress {
			if ingress.IP != "" {
				warnings = append(warnings, validation.GetWarningsForIP(path.Index(i), ingress.IP)...)
			}
		}
		return warnings
	}
	return status
}

// prepareService fills in what a client left out and keeps what was allocated, then clears what the new type does not use.
func prepareService(_ kinds.Request, new, old *corev1.Service) {
	new.Status = old.Status
	keepAllocated(new, old)
	pairClusterIPs(new, old)
	dropForType(new, old)
}
