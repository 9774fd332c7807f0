// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestKubeletsAreAskedAtTheirAddress(t *testing.T) {
	kubelet := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics/resource" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, "node_cpu_usage_seconds_total 1\n")
	}))
	defer kubelet.Close()
	host, text, err := net.SplitHostPort(kubelet.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	port, _ := strconv.Atoi(text)
	at := func(port int, addresses ...corev1.NodeAddress) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Addresses: addresses}}
		n.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(port)
		return n
	}
	for _, c := range []struct {
		name string
		node *corev1.Node
		want string
	}{
		{"internal address first", at(port, corev1.NodeAddress{Type: corev1.NodeHostName, Address: "nowhere.invalid"}, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: host}), ""},
		{"no address", at(port), "no address"},
		{"unknown node", nil, "unknown"},
	} {
		scrape := Kubelets(kubelet.Client(), func(string) *corev1.Node { return c.node })
		body, err := scrape(t.Context(), "n")
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			if s, err := parse(body, metav1.Now().Time); err != nil || s.node.cpu != 1 {
				t.Errorf("%s: %+v, %v", c.name, s, err)
			}
			body.Close()
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
