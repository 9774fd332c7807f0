// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package behind puts one test cluster behind another as an aggregated API server, over a loopback port.
package behind

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/testcluster"
)

// Ships is the resource that the cluster behind serves.
var Ships = schema.GroupVersionResource{Group: "sea.example", Version: "v1", Resource: "ships"}

// patience bounds how long the group-version may take to become available.
const patience = 20 * time.Second

// Server is the cluster behind.
type Server struct {
	// Admin may do everything there.
	Admin *client.Client
	away  atomic.Bool
}

// Away makes the server answer nothing but failures, or come back.
func (s *Server) Away(away bool) { s.away.Store(away) }

// New makes a cluster that has ships, and registers it with front. It acts there as an administrator, whoever asks. It returns when front
// serves ships.
func New(t testing.TB, front *testcluster.Cluster) *Server {
	t.Helper()
	back := testcluster.New(t)
	s := &Server{Admin: back.Admin()}
	defineShips(t, s.Admin)
	token := administrator(t, s.Admin)
	served := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.away.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		for _, name := range []string{"X-Remote-User", "X-Remote-Uid", "X-Remote-Group"} {
			r.Header.Del(name)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		back.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		s.Away(true) // Or front would watch anew what is cut off here, and that would not end.
		served.CloseClientConnections()
		served.Close()
	})
	register(t, front.Admin(), served.URL)
	return s
}

func defineShips(t testing.TB, c *client.Client) {
	t.Helper()
	crd := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "ships.sea.example"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: Ships.Group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "ships", Singular: "ship", Kind: "Ship", ListKind: "ShipList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: Ships.Version, Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: new(true)}},
			}},
		},
	}
	create(t, c, crd)
	testcluster.Await(t, c, "", patience, func(all []*apiextensionsv1.CustomResourceDefinition) bool {
		for _, crd := range all {
			for _, condition := range crd.Status.Conditions {
				if condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
					return true
				}
			}
		}
		return false
	})
}

// administrator makes a service account that may do everything, and returns a token of it.
func administrator(t testing.TB, c *client.Client) string {
	t.Helper()
	create(t, c, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "front"}})
	create(t, c, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "front"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "kube-system", Name: "front"}},
	})
	testcluster.Settle(t, c)
	answer, err := client.Of[*corev1.ServiceAccount](c).Post(t.Context(), "kube-system", "front", "token", &authenticationv1.TokenRequest{})
	if err != nil {
		t.Fatalf("token: %v", err)
	}
	return answer.(*authenticationv1.TokenRequest).Status.Token
}

func register(t testing.TB, c *client.Client, address string) {
	t.Helper()
	at, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(at.Port())
	if err != nil {
		t.Fatal(err)
	}
	create(t, c, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "behind"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeExternalName, ExternalName: at.Hostname(), Ports: []corev1.ServicePort{{Port: int32(port)}},
		},
	})
	create(t, c, &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: Ships.Version + "." + Ships.Group},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: Ships.Group, Version: Ships.Version, GroupPriorityMinimum: 1000, VersionPriority: 15, InsecureSkipTLSVerify: true,
			Service: &apiregistrationv1.ServiceReference{Namespace: "kube-system", Name: "behind", Port: new(int32(port))},
		},
	})
	awaitService(t, c)
}

func create[T kinds.Object](t testing.TB, c *client.Client, obj T) {
	t.Helper()
	if _, err := client.Of[T](c).Create(t.Context(), obj); err != nil {
		t.Fatalf("create %s: %v", obj.GetName(), err)
	}
}

func awaitService(t testing.TB, c *client.Client) {
	t.Helper()
	testcluster.Await(t, c, "", patience, func(all []*apiregistrationv1.APIService) bool {
		for _, svc := range all {
			if svc.Name == Ships.Version+"."+Ships.Group {
				return len(svc.Status.Conditions) > 0 && svc.Status.Conditions[0].Status == apiregistrationv1.ConditionTrue
			}
		}
		return false
	})
}

// Client returns front's client of ships.
func Client(c *client.Client) client.Resource[*unstructured.Unstructured] {
	return client.At(c, Ships, func() *unstructured.Unstructured { return &unstructured.Unstructured{} })
}

// Ship makes an object.
func Ship(namespace, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": Ships.GroupVersion().String(), "kind": "Ship", "metadata": map[string]any{"namespace": namespace, "name": name},
	}}
}
