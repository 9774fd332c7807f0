// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package apiregistration describes the kinds of the apiregistration.k8s.io API group.
package apiregistration

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

// servicePort is where an aggregated server is reached when its Service names no port.
const servicePort = 443

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind { return []*kinds.Kind{apiService()} }

func apiService() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:              "apiservices",
		Singular:              "apiservice",
		Reset:                 map[string][]string{"status": {"metadata", "spec"}},
		FreeFinalizers:        true,
		Categories:            []string{"api-extensions"},
		NoGeneration:          true,
		ConditionalUpdateOnly: true,
		ValidateName:          func(string, bool) []string { return nil },
		Storage:               kinds.Storage{Prefix: "apiregistration.k8s.io/apiservices"},
		Subresources: []kinds.Subresource{
			kinds.Status(func(_ kinds.Request, new, old *apiregistrationv1.APIService) {
				new.Spec = old.Spec
				new.Labels, new.Annotations = old.Labels, old.Annotations
				new.Finalizers, new.OwnerReferences = old.Finalizers, old.OwnerReferences
			}, validateStatus),
		},
	}, apiregistrationv1.SchemeGroupVersion.WithKind("APIService"),
		func() *apiregistrationv1.APIService { return &apiregistrationv1.APIService{} },
		func() runtime.Object { return &apiregistrationv1.APIServiceList{} },
		kinds.Strategy[*apiregistrationv1.APIService]{
			Default: func(s *apiregistrationv1.APIService) {
				if s.Spec.Service != nil && s.Spec.Service.Port == nil {
					s.Spec.Service.Port = ptr.To[int32](servicePort)
				}
			},
			PrepareCreate:  prepareCreate,
			PrepareUpdate:  func(_ kinds.Request, new, old *apiregistrationv1.APIService) { new.Status = old.Status },
			Validate:       validate,
			ValidateUpdate: validateUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("Service", "The reference to the service that hosts this API endpoint."),
				table.Text("Available", "Whether this service is available."),
				table.Age(),
			},
			Row: row,
		})
}

// prepareCreate says of a group version that this server serves itself that it is available.
func prepareCreate(req kinds.Request, s *apiregistrationv1.APIService) {
	s.Status = apiregistrationv1.APIServiceStatus{}
	if s.Spec.Service == nil {
		s.Status.Conditions = []apiregistrationv1.APIServiceCondition{{
			Type:               apiregistrationv1.Available,
			Status:             apiregistrationv1.ConditionTrue,
			LastTransitionTime: req.Now,
			Reason:             "Local",
			Message:            "Local APIServices are always available",
		}}
	}
}

func row(s *apiregistrationv1.APIService, now time.Time) []any {
	service := "Local"
	if s.Spec.Service != nil {
		service = s.Spec.Service.Namespace + "/" + s.Spec.Service.Name
	}
	available := string(apiregistrationv1.ConditionUnknown)
	for _, c := range s.Status.Conditions {
		if c.Type != apiregistrationv1.Available {
			continue
		}
		available = string(c.Status)
		if c.Status != apiregistrationv1.ConditionTrue && c.Reason != "" {
			available += " (" + c.Reason + ")"
		}
	}
	return []any{s.Name, service, available, table.Since(s.CreationTimestamp, now)}
}
