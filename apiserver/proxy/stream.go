// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiproxy "k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	remoteexec "k8s.io/client-go/tools/remotecommand"
	clientspdy "k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// Responder answers with an error while nothing else has been sent.
type Responder func(w http.ResponseWriter, r *http.Request, err error)

// Error makes a Responder what the upgrade-aware proxy wants.
func (f Responder) Error(w http.ResponseWriter, r *http.Request, err error) { f(w, r, err) }

// Streams says which streams of a container a client wants.
type Streams struct{ Stdin, Stdout, Stderr, TTY bool }

const (
	pingEvery  = 5 * time.Second
	idleStream = 4 * time.Hour
	lastWords  = 10 * time.Second
)

// Exec connects a client to a container for exec and attach. A client that speaks the WebSocket protocol with stream close (v5) is translated
// to SPDY for the kubelet; all others are connected as they are.
func (k *Kubelets) Exec(w http.ResponseWriter, r *http.Request, location *url.URL, streams Streams, fail Responder) {
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		k.translate(w, r, location, streams)
		return
	}
	k.pass(w, r, location, fail)
}

// pass connects an upgraded connection to the kubelet byte by byte.
func (k *Kubelets) pass(w http.ResponseWriter, r *http.Request, location *url.URL, fail Responder) {
	h := apiproxy.NewUpgradeAwareHandler(location, k.transport, false, true, fail)
	h.ServeHTTP(w, r)
}

// translate serves the client's WebSocket and runs the session over SPDY.
func (k *Kubelets) translate(w http.ResponseWriter, r *http.Request, location *url.URL, streams Streams) {
	session, err := openSession(w, r, streams)
	if err != nil {
		return // The WebSocket library has answered.
	}
	defer session.close()
	session.report(k.run(r.Context(), location, streams, session))
}

func (k *Kubelets) run(ctx context.Context, location *url.URL, streams Streams, s *session) error {
	round, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{UpgradeTransport: k.transport, PingPeriod: pingEvery})
	if err != nil {
		return err
	}
	executor, err := remoteexec.NewSPDYExecutorRejectRedirects(round, clientspdy.NewUpgraderForStreaming(round), http.MethodPost, location)
	if err != nil {
		return err
	}
	opts := remoteexec.StreamOptions{Tty: streams.TTY}
	if streams.Stdin {
		opts.Stdin = s.stdin
	}
	if streams.Stdout {
		opts.Stdout = s.stdout
	}
	if streams.Stderr {
		opts.Stderr = s.stderr
	}
	if streams.TTY {
		opts.TerminalSizeQueue = s
	}
	return executor.StreamWithContext(ctx, opts)
}

// session is the client's side of a translated connection.
type session struct {
	conn   *wsstream.Conn
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	errors io.Writer
	resize *json.Decoder
}

// openSession accepts the WebSocket and tells the client so by an empty message.
func openSession(w http.ResponseWriter, r *http.Request, streams Streams) (*session, error) {
	kind := func(on bool, t wsstream.ChannelType) wsstream.ChannelType {
		if on {
			return t
		}
		return wsstream.IgnoreChannel
	}
	channels := []wsstream.ChannelType{
		remotecommand.StreamStdIn:  kind(streams.Stdin, wsstream.ReadChannel),
		remotecommand.StreamStdOut: kind(streams.Stdout, wsstream.WriteChannel),
		remotecommand.StreamStdErr: kind(streams.Stderr, wsstream.WriteChannel),
		remotecommand.StreamErr:    wsstream.WriteChannel,
		remotecommand.StreamResize: wsstream.ReadChannel,
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{remotecommand.StreamProtocolV5Name: {Binary: true, Channels: channels}})
	conn.SetIdleTimeout(idleStream)
	_, open, err := conn.Open(w, r)
	if err != nil {
		return nil, err
	}
	first := open[remotecommand.StreamErr]
	switch {
	case streams.Stdout:
		first = open[remotecommand.StreamStdOut]
	case streams.Stderr:
		first = open[remotecommand.StreamStdErr]
	}
	if _, err := first.Write(nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &session{
		conn: conn, stdin: open[remotecommand.StreamStdIn], stdout: open[remotecommand.StreamStdOut], stderr: open[remotecommand.StreamStdErr],
		errors: open[remotecommand.StreamErr], resize: json.NewDecoder(open[remotecommand.StreamResize]),
	}, nil
}

// Next implements the queue of terminal sizes: it waits for the client's next size, nil at the end.
func (s *session) Next() *remoteexec.TerminalSize {
	size := &remoteexec.TerminalSize{}
	if s.resize.Decode(size) != nil {
		return nil
	}
	return size
}

func (s *session) close() { _ = s.conn.Close() } // The client may be gone already.

// report tells the client how the session ended.
func (s *session) report(err error) {
	status := metav1.Status{Status: metav1.StatusSuccess}
	var api apierrors.APIStatus
	var exit exec.CodeExitError
	switch {
	case err == nil:
	case errors.As(err, &api):
		status = api.Status()
	case errors.As(err, &exit) && exit.Exited():
		status = metav1.Status{
			Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: fmt.Sprint(exit.ExitStatus())}}},
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", exit),
		}
	default:
		status = apierrors.NewInternalError(err).ErrStatus
	}
	data, err := json.Marshal(status)
	if err != nil {
		return
	}
	s.conn.SetWriteDeadline(lastWords)
	_, _ = s.errors.Write(data) // The client may be gone already.
}
