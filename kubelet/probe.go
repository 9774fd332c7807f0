// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/kubelet/pod"
)

// minorVersion is what probes and hooks call themselves.
const minorVersion = "1.36"

// prober runs probes.
type prober struct {
	k       *Kubelet
	metrics probeCounts
}

type probeKey struct {
	id   string
	kind pod.ProbeKind
}

type runningProbe struct {
	cancel context.CancelFunc
}

// setProbes makes exactly these probes run.
func (w *worker) setProbes(ctx context.Context, want []pod.Probe) {
	keep := map[probeKey]bool{}
	for i := range want {
		key := probeKey{want[i].ID, want[i].Kind}
		keep[key] = true
		if w.probes[key] != nil {
			continue
		}
		probeCtx, cancel := context.WithCancel(ctx)
		w.probes[key] = &runningProbe{cancel: cancel}
		probe := want[i]
		w.ops.Go(func() {
			defer cancel()
			w.k.prober.run(probeCtx, w, probe)
		})
	}
	for key, p := range w.probes {
		if !keep[key] {
			p.cancel()
			delete(w.probes, key)
		}
	}
}

func (w *worker) stopProbes() {
	for _, p := range w.probes {
		p.cancel()
	}
}

// outcome of one attempt.
type probeResult uint8

const (
	probeSuccess probeResult = iota
	probeFailure
	probeUnknown // the attempt itself failed: it counts neither way
)

func (r probeResult) String() string { return [...]string{"successful", "failed", "unknown"}[r] }

// run probes one container instance until ctx ends or there is nothing more to find out.
func (b *prober) run(ctx context.Context, w *worker, p pod.Probe) {
	period := time.Duration(max(p.Spec.PeriodSeconds, 1)) * time.Second
	first := p.StartedAt.Add(time.Duration(p.Spec.InitialDelaySeconds) * time.Second)
	if time.Since(p.StartedAt) > period && time.Since(b.k.started) < period {
		// After a restart of the kubelet all probes would fall together.
		first = time.Now().Add(rand.N(period))
	}
	timer := time.NewTimer(max(time.Until(first), 0))
	defer timer.Stop()
	standing, run, last := p.Initial, int32(0), probeUnknown
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(period)
		result := b.attempt(ctx, w, p)
		if ctx.Err() != nil {
			return
		}
		if result == probeUnknown {
			continue
		}
		if result == last {
			run++
		} else {
			last, run = result, 1
		}
		if result == probeFailure && run < max(p.Spec.FailureThreshold, 1) || result == probeSuccess && run < max(p.Spec.SuccessThreshold, 1) {
			continue
		}
		now := pod.Success
		if result == probeFailure {
			now = pod.Failure
		}
		if now == standing {
			continue
		}
		standing = now
		w.post(func() { w.machine.Probed(p.ID, p.Kind, now) })
		if p.Kind != pod.Readiness && now == pod.Failure || p.Kind == pod.Startup {
			return // the container is killed, or has started: this probe's work is done
		}
	}
}

// attempt probes once and reports failures as events.
func (b *prober) attempt(ctx context.Context, w *worker, p pod.Probe) probeResult {
	v := w.view.Load()
	timeout := time.Duration(max(p.Spec.TimeoutSeconds, 1)) * time.Second
	result, message := b.probe(ctx, w, v.pod, p, timeout)
	if ctx.Err() != nil {
		return probeUnknown
	}
	b.metrics.count(string(p.Kind), result, p.Container.Name, v.pod)
	switch result {
	case probeFailure:
		w.event(v.pod, p.Container.Name, corev1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe failed: %s", p.Kind, message))
	case probeUnknown:
		w.event(v.pod, p.Container.Name, corev1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe errored and resulted in %s state: %s", p.Kind, result, message))
	case probeSuccess:
	}
	return result
}

func (b *prober) probe(ctx context.Context, w *worker, p *corev1.Pod, probe pod.Probe, timeout time.Duration) (probeResult, string) {
	h, c := &probe.Spec.ProbeHandler, probe.Container
	ip := b.k.hookHost(w, p, "")
	switch {
	case h.Exec != nil:
		return b.exec(ctx, probe.ID, c, h.Exec.Command, timeout)
	case h.HTTPGet != nil:
		port, err := resolvePort(h.HTTPGet.Port, c)
		if err != nil {
			return probeUnknown, err.Error()
		}
		host := h.HTTPGet.Host
		if host == "" {
			host = ip
		}
		return httpProbe(ctx, h.HTTPGet, host, port, timeout)
	case h.TCPSocket != nil:
		port, err := resolvePort(h.TCPSocket.Port, c)
		if err != nil {
			return probeUnknown, err.Error()
		}
		host := h.TCPSocket.Host
		if host == "" {
			host = ip
		}
		return tcpProbe(ctx, host, port, timeout)
	case h.GRPC != nil:
		service := ""
		if h.GRPC.Service != nil {
			service = *h.GRPC.Service
		}
		return grpcProbe(ctx, ip, int(h.GRPC.Port), service, timeout)
	}
	return probeUnknown, fmt.Sprintf("missing probe handler for %s:%s", p.Name, c.Name)
}

// maxProbeOutput bounds what an exec probe's output takes in a message, in bytes.
const maxProbeOutput = 10 * 1024

func (b *prober) exec(ctx context.Context, id string, c *corev1.Container, command []string, timeout time.Duration) (probeResult, string) {
	values := map[string]string{}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			values[e.Name] = e.Value
		}
	}
	expanded := make([]string, len(command))
	for i, s := range command {
		expanded[i] = expandEnv(s, values)
	}
	out, code, err := b.k.execSync(ctx, id, expanded, timeout)
	if len(out) > maxProbeOutput {
		out = out[:maxProbeOutput]
	}
	switch {
	case status.Code(err) == codes.DeadlineExceeded:
		return probeFailure, fmt.Sprintf("command timed out: %q timed out after %s", strings.Join(expanded, " "), timeout)
	case err != nil:
		return probeUnknown, status.Convert(err).Message()
	case code != 0:
		return probeFailure, string(out)
	}
	return probeSuccess, string(out)
}

func resolvePort(port intstr.IntOrString, c *corev1.Container) (int, error) {
	number := port.IntValue()
	if port.Type == intstr.String {
		found := false
		for _, p := range c.Ports {
			if p.Name == port.StrVal {
				number, found = int(p.ContainerPort), true
			}
		}
		if n, err := strconv.Atoi(port.StrVal); !found && err == nil {
			number, found = n, true
		}
		if !found {
			return 0, fmt.Errorf("couldn't find port: %v", port.StrVal)
		}
	}
	if number <= 0 || number > 65535 {
		return 0, fmt.Errorf("invalid port number: %v", number)
	}
	return number, nil
}

func newProbeRequest(ctx context.Context, get *corev1.HTTPGetAction, host string, port int) (*http.Request, error) {
	scheme := strings.ToLower(string(get.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	u, err := url.Parse(get.Path)
	if err != nil {
		u = &url.URL{Path: get.Path}
	}
	u.Scheme, u.Host = scheme, net.JoinHostPort(host, strconv.Itoa(port))
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "kube-probe/"+minorVersion)
	request.Header.Set("Accept", "*/*")
	for _, h := range get.HTTPHeaders {
		if strings.EqualFold(h.Name, "Host") {
			request.Host = h.Value
			continue
		}
		if strings.EqualFold(h.Name, "User-Agent") || strings.EqualFold(h.Name, "Accept") {
			if h.Value == "" {
				request.Header.Del(h.Name)
			} else {
				request.Header.Set(h.Name, h.Value)
			}
			continue
		}
		request.Header.Add(h.Name, h.Value)
	}
	return request, nil
}

var errRedirects = errors.New("stopped after 10 redirects")

func httpProbe(ctx context.Context, get *corev1.HTTPGetAction, host string, port int, timeout time.Duration) (probeResult, string) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := newProbeRequest(ctx, get, host, port)
	if err != nil {
		return probeUnknown, err.Error()
	}
	transport := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the pod has no certificate that could be known
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if r.URL.Hostname() != via[0].URL.Hostname() {
			return http.ErrUseLastResponse // a redirect elsewhere is taken as an answer
		}
		if len(via) >= 10 {
			return errRedirects
		}
		return nil
	}}
	response, err := client.Do(request)
	if err != nil {
		return probeFailure, err.Error()
	}
	defer response.Body.Close()
	_, err = io.CopyN(io.Discard, response.Body, maxProbeOutput) // lets the server finish its answer
	if err != nil && !errors.Is(err, io.EOF) {
		return probeFailure, err.Error()
	}
	if response.StatusCode >= http.StatusOK && response.StatusCode < http.StatusBadRequest {
		return probeSuccess, ""
	}
	return probeFailure, fmt.Sprintf("HTTP probe failed with statuscode: %d", response.StatusCode)
}

func tcpProbe(ctx context.Context, host string, port int, timeout time.Duration) (probeResult, string) {
	conn, err := (&net.Dialer{Timeout: timeout}).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return probeFailure, err.Error()
	}
	if err := conn.Close(); err != nil {
		return probeSuccess, err.Error()
	}
	return probeSuccess, ""
}

func grpcProbe(ctx context.Context, host string, port int, service string, timeout time.Duration) (probeResult, string) {
	address := net.JoinHostPort(host, strconv.Itoa(port))
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithUserAgent("kube-probe/"+minorVersion), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return probeFailure, fmt.Sprintf("error: connection to %q failed: %v", address, err)
	}
	defer conn.Close() //nolint:errcheck // the answer is all that counts
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(metadata.NewOutgoingContext(ctx, metadata.MD{}), &grpc_health_v1.HealthCheckRequest{Service: service}, grpc.WaitForReady(true))
	switch code := status.Code(err); {
	case code == codes.Unimplemented:
		return probeFailure, fmt.Sprintf("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", status.Convert(err).Message())
	case code == codes.DeadlineExceeded:
		return probeFailure, fmt.Sprintf("timeout: failed to connect service %q within %v: %s", address, timeout, status.Convert(err).Message())
	case err != nil:
		return probeFailure, fmt.Sprintf("error: health rpc probe failed: %v", err)
	}
	if answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return probeFailure, fmt.Sprintf("service unhealthy (responded with %q)", answer.GetStatus())
	}
	return probeSuccess, ""
}
