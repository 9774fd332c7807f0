// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package hostile_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
)

// TestUpgradeFlood asks 200 times for exec, attach and port-forward, by WebSocket and by SPDY, on a node whose kubelet takes connections and says
// nothing, and goes away. What the server has begun for each must end with it: these requests have no time of their own.
func TestUpgradeFlood(t *testing.T) {
	s := lay(t)
	kubelet, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var met atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		var conns []net.Conn
		for {
			conn, err := kubelet.Accept()
			if err != nil {
				break
			}
			met.Add(1)
			conns = append(conns, conn)
		}
		for _, conn := range conns {
			_ = conn.Close() // Nobody is at the other end.
		}
	}()
	t.Cleanup(func() {
		_ = kubelet.Close() // It is no more than a listener.
		<-done
	})
	admin := s.cluster.Admin()
	if _, err := client.Of[*corev1.Node](admin).Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "silent"}}); err != nil {
		t.Fatal(err)
	}
	c := s.caller(innocent)
	defer c.close()
	// A patch: controllers write to the node, too.
	c.want(t, http.StatusOK, http.MethodPatch, "/api/v1/nodes/silent/status", fmt.Appendf(nil, `{"status":{"addresses":[{"type":"InternalIP","address":"127.0.0.1"}],"daemonEndpoints":{"kubeletEndpoint":{"Port":%d}}}}`,
		kubelet.Addr().(*net.TCPAddr).Port), "Content-Type", "application/merge-patch+json")
	_, err = client.Of[*corev1.Pod](admin).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "far"},
		Spec:       corev1.PodSpec{NodeName: "silent", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.under(t, 128<<20, func(t *testing.T) {
		var conns []*tls.Conn
		for i := range 200 {
			conn := s.dial(t, "http/1.1")
			path := []string{"exec?command=a&stdout=1", "attach?stdin=1&stdout=1", "portforward?ports=80", "exec?command=a&stdin=1&stdout=1"}[i%4]
			upgrade := "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n"
			method := http.MethodGet
			if i/4%2 == 1 {
				method, upgrade = http.MethodPost, "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n"
			}
			fmt.Fprintf(conn, "%s /api/v1/namespaces/default/pods/far/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n", method, path, attacker, upgrade)
			conns = append(conns, conn)
		}
		for began := time.Now(); met.Load() < 100 && time.Since(began) < recovery; {
			time.Sleep(50 * time.Millisecond)
		}
		if met.Load() < 100 {
			t.Errorf("%d streams reached the kubelet, want most of 200", met.Load())
		}
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
}
