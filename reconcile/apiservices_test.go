// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// TestOnlyRemote keeps nothing but the names of an APIService of this server, and all of another server's.
func TestOnlyRemote(t *testing.T) {
	local := &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: "v1.sea.example", UID: "u", ResourceVersion: "7", Labels: map[string]string{"a": "b"}},
		Spec:       apiregistrationv1.APIServiceSpec{Group: "sea.example", Version: "v1"},
	}
	want := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v1.sea.example", UID: "u", ResourceVersion: "7"}}
	if d := cmp.Diff(want, onlyRemote(local)); d != "" {
		t.Errorf("an APIService without a Service (-want +got):\n%s", d)
	}
	remote := local.DeepCopy()
	remote.Spec.Service = &apiregistrationv1.ServiceReference{Name: "other"}
	if onlyRemote(remote) != remote {
		t.Error("an APIService with a Service is not kept whole")
	}
}
