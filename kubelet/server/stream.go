// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// flag reads a stream's switch: the kubelet's own names, and the API server's.
func flag(q url.Values, names ...string) bool {
	for _, name := range names {
		if v := q.Get(name); v == "1" || strings.EqualFold(v, "true") {
			return true
		}
	}
	return false
}

func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	id, err := s.container(r)
	if err != nil {
		fail(w, err)
		return
	}
	q := r.URL.Query()
	tty := flag(q, corev1.ExecTTYParam)
	in := &runtimeapi.ExecRequest{
		ContainerId: id, Cmd: q[corev1.ExecCommandParam], Tty: tty, Stdin: flag(q, corev1.ExecStdinParam, "stdin"),
		Stdout: flag(q, corev1.ExecStdoutParam, "stdout"), Stderr: !tty && flag(q, corev1.ExecStderrParam, "stderr"),
	}
	if !in.Stdin && !in.Stdout && !in.Stderr {
		http.Error(w, "you must specify at least 1 of stdin, stdout, stderr", http.StatusBadRequest)
		return
	}
	answer, err := s.config.Runtime.Containers.Exec(r.Context(), in)
	s.proxy(w, r, answer.GetUrl(), err)
}

func (s *Server) attach(w http.ResponseWriter, r *http.Request) {
	id, err := s.container(r)
	if err != nil {
		fail(w, err)
		return
	}
	q := r.URL.Query()
	tty := flag(q, corev1.ExecTTYParam)
	answer, err := s.config.Runtime.Containers.Attach(r.Context(), &runtimeapi.AttachRequest{
		ContainerId: id, Tty: tty, Stdin: flag(q, corev1.ExecStdinParam, "stdin"), Stdout: flag(q, corev1.ExecStdoutParam, "stdout"),
		Stderr: !tty && flag(q, corev1.ExecStderrParam, "stderr"),
	})
	s.proxy(w, r, answer.GetUrl(), err)
}

func (s *Server) portForward(w http.ResponseWriter, r *http.Request) {
	p, err := s.pod(r)
	if err != nil {
		fail(w, err)
		return
	}
	if p.Sandbox == "" {
		fail(w, &statusError{http.StatusNotFound, fmt.Sprintf("not found (pod \"%s_%s\" has no ready sandbox)", p.Object.Name, p.Object.Namespace)})
		return
	}
	in := &runtimeapi.PortForwardRequest{PodSandboxId: p.Sandbox}
	for _, list := range r.URL.Query()["port"] {
		for text := range strings.SplitSeq(list, ",") {
			port, err := strconv.ParseUint(text, 10, 16)
			if err != nil || port == 0 {
				http.Error(w, fmt.Sprintf("unable to parse %q as a port", text), http.StatusBadRequest)
				return
			}
			in.Port = append(in.Port, int32(port))
		}
	}
	answer, err := s.config.Runtime.Containers.PortForward(r.Context(), in)
	s.proxy(w, r, answer.GetUrl(), err)
}

// run executes a command and answers with what it wrote.
func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	id, err := s.container(r)
	if err != nil {
		fail(w, err)
		return
	}
	answer, err := s.config.Runtime.Containers.ExecSync(r.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: strings.Fields(r.URL.Query().Get("cmd"))})
	if err != nil {
		fail(w, err)
		return
	}
	if answer.GetExitCode() != 0 {
		w.WriteHeader(http.StatusInternalServerError)
	}
	w.Write(append(answer.GetStdout(), answer.GetStderr()...)) //nolint:errcheck // the client is gone
}

// proxy connects the client with the runtime's streaming server. The kubelet understands nothing of what flows: the protocol
// is between the client and the runtime.
func (s *Server) proxy(w http.ResponseWriter, r *http.Request, target string, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		http.Error(w, "runtime returned a bad streaming address", http.StatusInternalServerError)
		return
	}
	backend, err := dialStream(r.Context(), u)
	if err != nil {
		http.Error(w, "connect streaming server: "+err.Error(), http.StatusBadGateway)
		return
	}
	defer backend.Close()
	out := r.Clone(r.Context())
	out.URL, out.Host, out.Body, out.ContentLength = &url.URL{Path: u.Path, RawQuery: u.RawQuery}, u.Host, nil, 0
	out.Header.Del("Authorization")
	if err := out.Write(backend); err != nil {
		http.Error(w, "ask streaming server: "+err.Error(), http.StatusBadGateway)
		return
	}
	reader := bufio.NewReader(backend)
	answer, err := http.ReadResponse(reader, out)
	if err != nil {
		http.Error(w, "answer of streaming server: "+err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusSwitchingProtocols {
		maps.Copy(w.Header(), answer.Header)
		w.WriteHeader(answer.StatusCode)
		io.Copy(w, answer.Body) //nolint:errcheck // the client is gone
		return
	}
	s.splice(w, r, answer, backend, reader)
}

func dialStream(ctx context.Context, u *url.URL) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	if u.Scheme == "https" {
		return (&tls.Dialer{NetDialer: dialer, Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", u.Host) // the runtime's own certificate, on this host
	}
	return dialer.DialContext(ctx, "tcp", u.Host)
}

// splice copies bytes both ways until both are done, or the server ends.
func (s *Server) splice(w http.ResponseWriter, r *http.Request, answer *http.Response, backend net.Conn, reader *bufio.Reader) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, "streams need HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	conn, buffered, err := hijacker.Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	answer.Body = nil
	head := "HTTP/1.1 " + answer.Status + "\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		return
	}
	if err := answer.Header.Write(conn); err != nil {
		return
	}
	if _, err := io.WriteString(conn, "\r\n"); err != nil {
		return
	}
	stop := context.AfterFunc(r.Context(), func() {
		conn.Close()
		backend.Close()
	})
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(backend, buffered) //nolint:errcheck // either end may go first
		closeWrite(backend)
	})
	io.Copy(conn, reader) //nolint:errcheck // either end may go first
	conn.Close()
	wg.Wait()
}

func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		half.CloseWrite() //nolint:errcheck // the connection is ending
		return
	}
	c.Close()
}
