// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package endpointslicemirroring_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

// mirrored renders the slices of the Service by-hand.
func mirrored(all []*discoveryv1.EndpointSlice) string {
	var out []string
	for _, s := range all {
		if s.Labels[discoveryv1.LabelServiceName] != "by-hand" || s.Labels[discoveryv1.LabelManagedBy] != "endpointslicemirroring-controller.k8s.io" {
			continue
		}
		text := string(s.AddressType)
		for _, p := range s.Ports {
			text += " " + *p.Name
		}
		for _, e := range s.Endpoints {
			text += " " + e.Addresses[0]
			if !*e.Conditions.Ready {
				text += "!"
			}
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// TestEndpointsAreMirrored keeps Endpoints by hand: made, changed, deleted.
func TestEndpointsAreMirrored(t *testing.T) {
	c := testcluster.New(t).Admin()
	api := client.Of[*corev1.Endpoints](c)
	meta := metav1.ObjectMeta{Namespace: "default", Name: "by-hand"}
	await := func(want string) {
		t.Helper()
		testcluster.Await(t, c, "default", 10*time.Second, func(all []*discoveryv1.EndpointSlice) bool { return mirrored(all) == want })
	}
	_, err := client.Of[*corev1.Service](c).Create(t.Context(), &corev1.Service{
		ObjectMeta: meta, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	source := &corev1.Endpoints{ObjectMeta: meta, Subsets: []corev1.EndpointSubset{{
		Addresses:         []corev1.EndpointAddress{{IP: "192.0.2.10"}, {IP: "2001:db8::10"}},
		NotReadyAddresses: []corev1.EndpointAddress{{IP: "192.0.2.11"}},
		Ports:             []corev1.EndpointPort{{Name: "http", Port: 8080, Protocol: corev1.ProtocolTCP}},
	}}}
	created, err := api.Create(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	await("IPv4 http 192.0.2.10 192.0.2.11!; IPv6 http 2001:db8::10")
	next := created.DeepCopy()
	next.Subsets[0].Addresses, next.Subsets[0].NotReadyAddresses = []corev1.EndpointAddress{{IP: "192.0.2.11"}}, nil
	if _, err := api.Update(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	await("IPv4 http 192.0.2.11")
	if err := api.Delete(t.Context(), "default", "by-hand", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await("")
}
