// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/kubelet/pod"
)

// preStop runs a container's hook; its failure is reported and does not stop the stop.
func (k *Kubelet) preStop(ctx context.Context, w *worker, p *corev1.Pod, a pod.Action) {
	if a.Container == nil || a.Container.Lifecycle == nil || a.Container.Lifecycle.PreStop == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, a.Grace)
	defer cancel()
	if err := k.runHook(ctx, w, p, a.Container, a.ID, a.Container.Lifecycle.PreStop); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		w.event(p, a.Container.Name, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
	}
}

// runHook runs a postStart or preStop handler.
func (k *Kubelet) runHook(ctx context.Context, w *worker, p *corev1.Pod, c *corev1.Container, id string, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		out, code, err := k.execSync(ctx, id, h.Exec.Command, 0)
		if err != nil {
			return fmt.Errorf("exec hook: %w", err)
		}
		if code != 0 {
			return fmt.Errorf("command '%s' exited with %d: %s, message: %q", strings.Join(h.Exec.Command, " "), code, out, out)
		}
		return nil
	case h.HTTPGet != nil:
		return k.httpHook(ctx, w, p, c, h.HTTPGet)
	case h.Sleep != nil:
		select {
		case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	case h.TCPSocket != nil:
		port, err := resolvePort(h.TCPSocket.Port, c)
		if err != nil {
			return err
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(k.hookHost(w, p, h.TCPSocket.Host), strconv.Itoa(port)))
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return errors.New("invalid handler: none is set")
}

func (k *Kubelet) hookHost(w *worker, p *corev1.Pod, host string) string {
	if host != "" {
		return host
	}
	if ips := k.podIPs(w, p); len(ips) > 0 {
		return ips[0]
	}
	return ""
}

func (k *Kubelet) httpHook(ctx context.Context, w *worker, p *corev1.Pod, c *corev1.Container, get *corev1.HTTPGetAction) error {
	host := k.hookHost(w, p, get.Host)
	if host == "" {
		return errors.New("failed to find networking container: no address")
	}
	port, err := resolvePort(get.Port, c)
	if err != nil {
		return err
	}
	request, err := newProbeRequest(ctx, get, host, port)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "kube-lifecycle/"+minorVersion)
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // the pod has no certificate that could be known
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	var record tls.RecordHeaderError
	if errors.As(err, &record) && request.URL.Scheme == "https" && string(record.RecordHeader[:]) == "HTTP/" {
		// Old specifications name HTTPS for servers that speak plain HTTP.
		w.event(p, c.Name, corev1.EventTypeWarning, "LifecycleHTTPFallback",
			fmt.Sprintf("request to HTTPS lifecycle hook %s got HTTP response, retry with HTTP", request.URL.Host))
		request = request.Clone(ctx)
		request.URL.Scheme = "http"
		response, err = (&http.Client{Transport: transport}).Do(request)
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("HTTP hook answered %s", response.Status)
	}
	return nil
}

// execSync runs a command in a container and returns what it wrote.
func (k *Kubelet) execSync(ctx context.Context, id string, command []string, timeout time.Duration) (output []byte, code int32, err error) {
	r, err := k.config.Runtime.Containers.ExecSync(ctx, &runtimeapi.ExecSyncRequest{
		ContainerId: id, Cmd: command, Timeout: int64((timeout + time.Second - 1) / time.Second),
	})
	if err != nil {
		return nil, -1, err
	}
	return append(r.GetStdout(), r.GetStderr()...), r.GetExitCode(), nil
}

// stopAfterHook stops a container whose postStart hook failed, preStop hook first.
func (k *Kubelet) stopAfterHook(ctx context.Context, w *worker, p *corev1.Pod, a pod.Action, id string) {
	grace := 30 * time.Second
	if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	began := time.Now()
	if grace > 0 {
		k.preStop(ctx, w, p, pod.Action{ID: id, Container: a.Container, Grace: grace})
	}
	left := max(grace-time.Since(began), 2*time.Second)
	if err := k.stopContainer(ctx, id, left); err != nil {
		w.log.Warn("container can't be stopped after its hook failed", "err", err)
	}
}
