// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"

	"kogge.dev/kogge/cri"
)

// logs answers with a container's log.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	p, err := s.pod(r)
	if err != nil {
		fail(w, err)
		return
	}
	options, err := logOptions(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	name := r.PathValue("container")
	id, err := logContainer(p, name, options.Previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	path := p.Logs[id]
	if path == "" {
		http.Error(w, fmt.Sprintf("unable to retrieve container logs for container %q", name), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	out := &flusher{w: w}
	if options.Follow {
		w.WriteHeader(http.StatusOK)
		out.flush()
	}
	stdout, stderr := io.Writer(out), io.Writer(out)
	if options.Stream != nil {
		switch *options.Stream {
		case corev1.LogStreamStdout:
			stderr = io.Discard
		case corev1.LogStreamStderr:
			stdout = io.Discard
		}
	}
	err = logs.ReadLogs(r.Context(), path, id, readOptions(options, time.Now()), statusOnly{runtime: s.config.Runtime}, stdout, stderr)
	if err != nil && !out.wrote && r.Context().Err() == nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func readOptions(o *corev1.PodLogOptions, now time.Time) *logs.LogOptions {
	out := &logs.LogOptions{TailLines: o.TailLines, LimitBytes: o.LimitBytes, Follow: o.Follow, Timestamp: o.Timestamps}
	switch {
	case o.SinceSeconds != nil:
		out.Since = now.Add(-time.Duration(*o.SinceSeconds) * time.Second)
	case o.SinceTime != nil:
		out.Since = o.SinceTime.Time
	}
	return out
}

func logOptions(q url.Values) (*corev1.PodLogOptions, error) {
	o := &corev1.PodLogOptions{Follow: flag(q, "follow"), Previous: flag(q, "previous"), Timestamps: flag(q, "timestamps")}
	number := func(name string) (*int64, error) {
		text := q.Get(name)
		if text == "" {
			return nil, nil
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("invalid value for option %s: %q", name, text)
		}
		return &n, nil
	}
	var err error
	if o.TailLines, err = number("tailLines"); err != nil {
		o.TailLines = nil // upstream reads "all" and the like as no limit
	}
	if o.LimitBytes, err = number("limitBytes"); err != nil {
		return nil, err
	}
	if o.SinceSeconds, err = number("sinceSeconds"); err != nil {
		return nil, err
	}
	if text := q.Get("sinceTime"); text != "" {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, fmt.Errorf("invalid value for option sinceTime: %w", err)
		}
		since := metav1.NewTime(t)
		o.SinceTime = &since
	}
	if stream := q.Get("stream"); stream != "" {
		o.Stream = &stream
	}
	return o, nil
}

// logContainer finds the instance whose log is asked for, or says why there is none.
func logContainer(p Pod, name string, previous bool) (string, error) {
	where := fmt.Sprintf("container %q in pod %q", name, p.Object.Name)
	var status *corev1.ContainerStatus
	for _, list := range [][]corev1.ContainerStatus{p.Object.Status.ContainerStatuses, p.Object.Status.InitContainerStatuses, p.Object.Status.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				status = &list[i]
			}
		}
	}
	if status == nil {
		return "", fmt.Errorf("%s is not available", where)
	}
	if previous {
		if id := p.Previous[name]; id != "" {
			return id, nil
		}
		if status.State.Waiting != nil && p.Containers[name] != "" {
			return p.Containers[name], nil // the last instance ended and the next has not begun
		}
		return "", fmt.Errorf("previous terminated container %q in pod %q not found", name, p.Object.Name)
	}
	if id := p.Containers[name]; id != "" {
		return id, nil
	}
	switch waiting := status.State.Waiting; {
	case waiting == nil:
		return "", fmt.Errorf("%s is terminated", where)
	case waiting.Reason == "ErrImagePull":
		return "", fmt.Errorf("%s is waiting to start: image can't be pulled", where)
	case waiting.Reason == "ImagePullBackOff":
		return "", fmt.Errorf("%s is waiting to start: trying and failing to pull image", where)
	default:
		return "", fmt.Errorf("%s is waiting to start: %v", where, waiting.Reason)
	}
}

// flusher sends each write to the client at once.
type flusher struct {
	w     http.ResponseWriter
	wrote bool
}

func (f *flusher) Write(p []byte) (int, error) {
	f.wrote = true
	n, err := f.w.Write(p)
	f.flush()
	return n, err
}

func (f *flusher) flush() {
	if flush, ok := f.w.(http.Flusher); ok {
		flush.Flush()
	}
}

// statusOnly is as much of the CRI client as the log reader uses: whether the container still runs.
type statusOnly struct {
	internalapi.RuntimeService
	runtime *cri.Runtime
}

// ContainerStatus asks the runtime.
func (s statusOnly) ContainerStatus(ctx context.Context, id string, verbose bool) (*runtimeapi.ContainerStatusResponse, error) {
	return s.runtime.Containers.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: verbose})
}
