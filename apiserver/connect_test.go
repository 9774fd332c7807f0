// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	criforward "k8s.io/cri-streaming/pkg/streaming/portforward"
	criexec "k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/store/memory"
)

// kubelet serves the streaming endpoints as a kubelet does, with the library that runtimes use.
type kubelet struct{ t *testing.T }

func (k kubelet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch parts[0] {
	case "exec", "attach":
		opts, err := criexec.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		criexec.ServeExec(w, r, k, parts[2], "", parts[3], r.URL.Query()["command"], opts, time.Minute, 10*time.Second, criexec.SupportedStreamingProtocols)
	case "portForward":
		criforward.ServePortForward(w, r, k, parts[2], "", &criforward.V4Options{}, time.Minute, 10*time.Second, criforward.SupportedProtocols)
	case "containerLogs":
		fmt.Fprintf(w, "%s tail=%s\n", r.URL.Path, r.URL.Query().Get("tailLines"))
	case "metrics":
		fmt.Fprint(w, "kubelet metrics")
	default:
		http.NotFound(w, r)
	}
}

func (kubelet) ExecInContainer(
	_ context.Context, pod, _, container string, cmd []string, in io.Reader, out, errOut io.WriteCloser, _ bool, _ <-chan criexec.TerminalSize, _ time.Duration,
) error {
	if cmd[0] == "fail" {
		return utilexec.CodeExitError{Err: fmt.Errorf("exit status 7"), Code: 7}
	}
	fmt.Fprintf(out, "%s/%s %v: ", pod, container, cmd)
	if errOut != nil {
		fmt.Fprint(errOut, "to stderr")
	}
	if in != nil {
		_, err := io.Copy(out, in)
		return err
	}
	return nil
}

func (kubelet) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer func() { _ = stream.Close() }()
	line := make([]byte, 5)
	if _, err := io.ReadFull(stream, line); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stream, "%s from %d", line, port)
	return err
}

// nodeAddress is where the node says that it is: nothing is passed on to loopback. Connections lead to the test server all the same.
const nodeAddress = "192.0.2.10"

// connected is a server over TLS with one node, whose kubelet is a test server, and one pod on it.
func connected(t *testing.T) (*restclient.Config, string) {
	t.Helper()
	node := httptest.NewTLSServer(kubelet{t})
	t.Cleanup(node.Close)
	roots := x509.NewCertPool()
	roots.AddCert(node.Certificate())
	s, err := apiserver.New(apiserver.Config{
		Store: memory.New(), Catalog: catalog.New(), Logger: slog.New(slog.DiscardHandler),
		Kubelet: &apiserver.Kubelet{
			TLS: &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12},
			Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, node.Listener.Addr().String())
			},
		},
		Build: func(*apiserver.Server) (apiserver.Parts, error) { return apiserver.Parts{Authorizer: allowAll{}}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	front := httptest.NewTLSServer(s.Handler())
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	_, text, err := net.SplitHostPort(node.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	populate(t, s, int32(port))
	return &restclient.Config{Host: front.URL, TLSClientConfig: restclient.TLSClientConfig{Insecure: true}}, front.URL
}

func populate(t *testing.T, s *apiserver.Server, port int32) {
	t.Helper()
	c := client.New(s.Client(request.User{Name: "seed"}), catalog.New())
	ctx := t.Context()
	node, err := client.Of[*corev1.Node](c).Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	if err != nil {
		t.Fatal(err)
	}
	node = node.DeepCopy()
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeAddress}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = port
	if _, err := client.Of[*corev1.Node](c).UpdateStatus(ctx, node); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}}
	pod.Spec.NodeName, pod.Spec.Containers = "n1", []corev1.Container{{Name: "main", Image: "i"}}
	if _, err := client.Of[*corev1.Pod](c).Create(ctx, pod); err != nil {
		t.Fatal(err)
	}
}

func TestExecOverBothProtocols(t *testing.T) {
	config, base := connected(t)
	target := base + "/api/v1/namespaces/default/pods/p/exec?stdin=true&stdout=true&stderr=true&command=echo&command=x"
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	overSPDY, err := remotecommand.NewSPDYExecutor(config, http.MethodPost, u)
	if err != nil {
		t.Fatal(err)
	}
	overWebSocket, err := remotecommand.NewWebSocketExecutor(config, http.MethodGet, target)
	if err != nil {
		t.Fatal(err)
	}
	for name, executor := range map[string]remotecommand.Executor{"SPDY": overSPDY, "WebSocket": overWebSocket} {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			opts := remotecommand.StreamOptions{Stdin: strings.NewReader("from stdin"), Stdout: &out, Stderr: &errOut}
			if err := executor.StreamWithContext(t.Context(), opts); err != nil {
				t.Fatal(err)
			}
			if out.String() != "p/main [echo x]: from stdin" || errOut.String() != "to stderr" {
				t.Errorf("stdout %q, stderr %q", out.String(), errOut.String())
			}
		})
	}
}

func TestExecReportsTheExitCode(t *testing.T) {
	config, base := connected(t)
	executor, err := remotecommand.NewWebSocketExecutor(config, http.MethodGet, base+"/api/v1/namespaces/default/pods/p/exec?stdout=true&command=fail")
	if err != nil {
		t.Fatal(err)
	}
	err = executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard})
	if err == nil || err.Error() != "command terminated with exit code 7" {
		t.Errorf("StreamWithContext() = %v, want exit code 7", err)
	}
}

func TestPortForwardInAWebSocket(t *testing.T) {
	config, base := connected(t)
	u, err := url.Parse(base + "/api/v1/namespaces/default/pods/p/portforward")
	if err != nil {
		t.Fatal(err)
	}
	dialer, err := portforward.NewSPDYOverWebsocketDialer(u, config)
	if err != nil {
		t.Fatal(err)
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{"0:80"}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "hello")
	answer, err := io.ReadAll(conn)
	if err != nil || string(answer) != "hello from 80" {
		t.Errorf("answer %q, %v; want %q", answer, err, "hello from 80")
	}
	_ = conn.Close()
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestLogsAndProxy(t *testing.T) {
	config, base := connected(t)
	c, err := restclient.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"OPTIONS /api/v1/nodes/n1/proxy/metrics":            "200 kubelet metrics",
		"HEAD /api/v1/nodes/n1/proxy/metrics":               "200 ",
		"HEAD /api/v1/namespaces/default/pods/p/log":        "405 ",
		"OPTIONS /api/v1/namespaces/default/pods/p/log":     `405 {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"the server does not allow this method on the requested resource","reason":"MethodNotAllowed","details":{},"code":405}` + "\n",
		"/api/v1/namespaces/default/pods/p/log?tailLines=3": "200 /containerLogs/default/p/main tail=3\n",
		"/api/v1/namespaces/default/pods/p/log?dryRun=All":  "200 /containerLogs/default/p/main tail=\n",
		"/api/v1/namespaces/default/pods/p/log?stream=All": `422 {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"PodLogOptions \"p\" is invalid: stream: Forbidden: may not be specified",` +
			`"reason":"Invalid","details":{"name":"p","kind":"PodLogOptions","causes":[{"reason":"FieldValueForbidden","message":"Forbidden: may not be specified","field":"stream"}]},"code":422}` + "\n",
		"/api/v1/nodes/n1/proxy/metrics":                    "200 kubelet metrics",
		"/api/v1/namespaces/default/pods/p/log?container=x": `400 {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"container x is not valid for pod p","reason":"BadRequest","code":400}` + "\n",
	} {
		method, target, named := strings.Cut(path, " ")
		if !named {
			method, target = http.MethodGet, path
		}
		req, err := http.NewRequestWithContext(t.Context(), method, base+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got := fmt.Sprintf("%d %s", resp.StatusCode, body); err != nil || got != want {
			t.Errorf("%s %s = %q, %v; want %q", method, target, got, err, want)
		}
	}
}

func TestProxiesGoToPodsAndNodesOnly(t *testing.T) {
	config, base := connected(t)
	c, err := restclient.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, body string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if method == http.MethodPatch {
			req.Header.Set("Content-Type", "application/merge-patch+json")
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d %s", resp.StatusCode, answer)
	}
	ask(http.MethodPost, "/api/v1/nodes", `{"metadata":{"name":"lo"},"status":{"addresses":[{"type":"InternalIP","address":"127.0.0.1"}]}}`)
	ask(http.MethodPost, "/api/v1/namespaces/default/services", `{"metadata":{"name":"web"},"spec":{"ports":[{"name":"tls","port":443}]}}`)
	podIP := func(ip string) {
		ask(http.MethodPatch, "/api/v1/namespaces/default/pods/p/status", fmt.Sprintf(`{"status":{"podIP":%q,"podIPs":[{"ip":%[1]q}]}}`, ip))
	}
	backend := func(address string) {
		ask(http.MethodDelete, "/api/v1/namespaces/default/endpoints/web", "")
		ask(http.MethodPost, "/api/v1/namespaces/default/endpoints", `{"metadata":{"name":"web"},"subsets":[{"addresses":[`+address+`],"ports":[{"name":"tls","port":443}]}]}`)
	}
	const pod, service = "/api/v1/namespaces/default/pods/https:p:443/proxy/metrics", "/api/v1/namespaces/default/services/https:web:"
	for _, step := range []struct {
		name, path, want string
		before           func()
	}{
		{"a node on loopback", "/api/v1/nodes/lo/proxy/", "address not allowed", nil},
		{"a node on loopback, at a port", "/api/v1/nodes/lo:443/proxy/", "address not allowed", nil},
		{"a pod without address", pod, "address not allowed", nil},
		{"a pod on loopback", pod, "address not allowed", func() { podIP("127.0.0.1") }},
		{"a pod at a link-local address", pod, "address not allowed", func() { podIP("169.254.1.1") }},
		{"a pod", pod, "200 kubelet metrics", func() { podIP("192.0.2.20") }},
		{"no endpoints", service + "443/proxy/metrics", `services \"web\" not found`, nil},
		{"no pod", service + "443/proxy/metrics", `no endpoints available for service \"https:web:443\"`, func() { backend(`{"ip":"192.0.2.20"}`) }},
		{
			"another address than the pod's", service + "443/proxy/metrics", "no endpoints available",
			func() { backend(`{"ip":"192.0.2.21","targetRef":{"kind":"Pod","namespace":"default","name":"p"}}`) },
		},
		{
			"another namespace's pod", service + "443/proxy/metrics", "no endpoints available",
			func() { backend(`{"ip":"192.0.2.20","targetRef":{"kind":"Pod","namespace":"other","name":"p"}}`) },
		},
		{
			"an endpoint", service + "443/proxy/metrics", "200 kubelet metrics",
			func() { backend(`{"ip":"192.0.2.20","targetRef":{"kind":"Pod","namespace":"default","name":"p"}}`) },
		},
		{"an endpoint by the port's name", service + "tls/proxy/metrics", "200 kubelet metrics", nil},
		{"an endpoint by no port", service + "/proxy/metrics", "no endpoints available", nil},
		{"another port", service + "80/proxy/metrics", `no service port 80 found for service \"web\"`, nil},
	} {
		if step.before != nil {
			step.before()
		}
		if got := ask(http.MethodGet, step.path, ""); !strings.Contains(got, step.want) {
			t.Errorf("%s: GET %s = %s, want %q in it", step.name, step.path, got, step.want)
		}
	}
}
