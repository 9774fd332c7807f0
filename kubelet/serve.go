// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"kogge.dev/kogge/kubelet/pod"
	"kogge.dev/kogge/kubelet/render"
	"kogge.dev/kogge/kubelet/server"
)

// serve runs the HTTPS interface.
func (k *Kubelet) serve(ctx context.Context) error {
	listener := k.config.Listener
	s := &k.config.Settings
	if listener == nil {
		var err error
		address := net.JoinHostPort(s.Address, strconv.Itoa(int(s.Port)))
		if listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", address); err != nil {
			return fmt.Errorf("listen on %s: %w", address, err)
		}
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok {
		k.status.mu.Lock()
		k.status.port = int32(tcp.Port)
		k.status.mu.Unlock()
		k.status.poke()
	}
	return server.New(server.Config{
		NodeName: k.config.NodeName, Listener: listener, TLS: k.config.ServerTLS, ClientCA: k.config.ClientCA, Client: k.client,
		TokenTTL: s.Authentication.Webhook.CacheTTL.Duration, AllowTTL: s.Authorization.Webhook.CacheAuthorizedTTL.Duration,
		DenyTTL: s.Authorization.Webhook.CacheUnauthorizedTTL.Duration, Pods: k.serverPods, Lookup: k.lookup, Runtime: k.config.Runtime,
		Summary: k.summary, Settings: k.config.Settings, Debugging: *s.EnableDebuggingHandlers, Profiling: *s.EnableProfilingHandler,
		SystemLogs: *s.EnableSystemLogHandler, Healthy: k.healthy, Logger: k.log, Metrics: k.metricHandlers(),
	}).Run(ctx)
}

// serveHealth answers /healthz without TLS or questions, to whoever is on this machine: the process is there. Port 0 turns it off.
func (k *Kubelet) serveHealth(ctx context.Context) error {
	s := &k.config.Settings
	if *s.HealthzPort == 0 {
		return nil
	}
	address := net.JoinHostPort(s.HealthzBindAddress, strconv.Itoa(int(*s.HealthzPort)))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("healthzPort: listen on %s: %w", address, err)
	}
	return server.RunHealth(ctx, listener)
}

// healthy reports whether the kubelet can do its work: without an answer of the runtime it can do nothing.
func (k *Kubelet) healthy() error {
	k.status.mu.Lock()
	defer k.status.mu.Unlock()
	if k.status.silent {
		return errors.New(k.status.problem)
	}
	return nil
}

func (k *Kubelet) metricHandlers() map[string]http.Handler {
	return map[string]http.Handler{
		"": k.ownMetrics(), "resource": http.HandlerFunc(k.resourceMetrics), "cadvisor": http.HandlerFunc(k.cadvisorMetrics),
		"probes": http.HandlerFunc(k.probeMetrics),
	}
}

func (k *Kubelet) serverPods() []server.Pod {
	var out []server.Pod
	for _, w := range k.all() {
		out = append(out, k.serverPod(w))
	}
	return out
}

// lookup finds a pod by name; of several (one of them ending) the one that is not over.
func (k *Kubelet) lookup(namespace, name string) (server.Pod, bool) {
	var found *worker
	for _, w := range k.all() {
		v := w.view.Load()
		if v.pod.Namespace == namespace && v.pod.Name == name && (found == nil || v.stage < found.view.Load().stage) {
			found = w
		}
	}
	if found == nil {
		return server.Pod{}, false
	}
	return k.serverPod(found), true
}

func (k *Kubelet) serverPod(w *worker) server.Pod {
	v := w.view.Load()
	object := *v.pod
	object.APIVersion, object.Kind = "v1", "Pod"
	object.Status = *v.status
	out := server.Pod{Object: &object, Containers: map[string]string{}, Previous: map[string]string{}, Logs: map[string]string{}}
	for _, s := range v.runtime.Sandboxes {
		if s.Ready {
			out.Sandbox = s.ID
			break
		}
	}
	for _, c := range v.runtime.Containers { // the newest first
		if c.State == pod.Created {
			continue // it has written nothing
		}
		switch {
		case out.Containers[c.Name] == "":
			out.Containers[c.Name] = c.ID
		case out.Previous[c.Name] == "":
			out.Previous[c.Name] = c.ID
		}
		out.Logs[c.ID] = k.runtime.logPath(c.ID)
	}
	return out
}

func (k *Kubelet) podLogs(w *worker) string {
	return render.LogDirectory(k.config.PodLogs, w.view.Load().pod)
}

// expandEnv replaces references to literal variables of a container.
func expandEnv(s string, values map[string]string) string {
	return render.Expand(s, func(name string) (string, bool) { v, ok := values[name]; return v, ok })
}
