// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/websocket"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// tunnelProtocol is the WebSocket protocol that carries a SPDY connection as binary messages.
const (
	tunnelProtocol  = "SPDY/3.1+portforward.k8s.io"
	forwardProtocol = "portforward.k8s.io"
)

// PortForward connects a client to the ports of a pod. A SPDY connection tunnelled in a WebSocket is taken out of it for the kubelet.
func (k *Kubelets) PortForward(w http.ResponseWriter, r *http.Request, location *url.URL, fail Responder) {
	if !wsstream.IsWebSocketRequestWithTunnelingProtocol(r) {
		k.pass(w, r, location, fail)
		return
	}
	kubelet, buffered, err := k.upgrade(r.Context(), location)
	if err != nil {
		fail(w, r, err)
		return
	}
	defer func() { _ = kubelet.Close() }() // The other side may have closed it.
	server := websocket.Server{
		Handshake: func(config *websocket.Config, _ *http.Request) error {
			config.Protocol = []string{tunnelProtocol}
			return nil
		},
		Handler: func(ws *websocket.Conn) {
			ws.PayloadType = websocket.BinaryFrame
			join(ws, kubelet, buffered)
		},
	}
	server.ServeHTTP(w, r)
}

// join copies both ways until either side ends.
func join(client, kubelet net.Conn, buffered io.Reader) {
	done := make(chan struct{}, 2)
	pipe := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from) // The end of a connection is no error of ours.
		done <- struct{}{}
	}
	go pipe(kubelet, client)
	go pipe(client, buffered)
	<-done
	_ = client.Close()
	_ = kubelet.Close()
	<-done
}

// upgrade opens a SPDY connection to the kubelet.
func (k *Kubelets) upgrade(ctx context.Context, location *url.URL) (net.Conn, io.Reader, error) {
	raw, err := k.cfg.Dial(ctx, "tcp", location.Host)
	if err != nil {
		return nil, nil, err
	}
	config := k.cfg.TLS.Clone()
	config.NextProtos = []string{"http/1.1"}
	if config.ServerName == "" {
		config.ServerName = location.Hostname()
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, nil, errors.Join(err, raw.Close())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, location.String(), nil)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "SPDY/3.1")
	req.Header.Set("X-Stream-Protocol-Version", forwardProtocol)
	if err := req.Write(conn); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, req) //nolint:bodyclose // the body is the connection, which is closed or handed on
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxMessage)) // What there is will do.
		return nil, nil, errors.Join(fmt.Errorf("unable to upgrade connection: %s", strings.TrimSpace(string(text))), conn.Close())
	}
	return conn, reader, nil
}

// maxMessage bounds what is read of another server's error.
const maxMessage = 50_000
