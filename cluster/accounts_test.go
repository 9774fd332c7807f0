// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/http"
	"net/http/httptest"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/testcluster"
)

// TestControllersActAsTheirAccounts lets the controller manager's identity ask for tokens, with the rights that it has and no others.
func TestControllersActAsTheirAccounts(t *testing.T) {
	c := testcluster.New(t, testcluster.Config{Without: control.Components{Controllers: true, Scheduler: true, Cloud: true}})
	var requests int
	wire := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		c.Handler().ServeHTTP(w, r)
	}))
	defer wire.Close()
	server := &kubeconfigFile{
		config: &rest.Config{Host: wire.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, kinds: catalog.New(),
	}
	manager := c.As("system:kube-controller-manager")
	all, err := newAccounts(server, manager)
	if err != nil {
		t.Fatal(err)
	}
	own := all.client("deployment-controller")
	for range 2 {
		got, err := client.Of[*authenticationv1.SelfSubjectReview](own).Create(t.Context(), &authenticationv1.SelfSubjectReview{})
		if err != nil {
			t.Fatal(err)
		}
		if want := "system:serviceaccount:kube-system:deployment-controller"; got.Status.UserInfo.Username != want {
			t.Errorf("acts as %s, want %s", got.Status.UserInfo.Username, want)
		}
	}
	if requests != 2 {
		t.Errorf("%d requests with tokens for two reviews", requests)
	}
	if _, err := client.Of[*corev1.ServiceAccount](c.Admin()).Get(t.Context(), "kube-system", "deployment-controller"); err != nil {
		t.Error(err)
	}
}
