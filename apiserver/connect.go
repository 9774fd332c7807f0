// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/apiserver/proxy"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/kinds"
)

// connects are the subresources that lead to other servers.
var connects = []string{"exec", "attach", "portforward", "log", "proxy"}

// connect serves subresources that are streams or go to other servers; false leaves the request to the engine.
func (s *Server) connect(w http.ResponseWriter, r *http.Request, t *rest.Target, sub *kinds.Subresource) bool {
	if !slices.Contains(connects, sub.Name) {
		return false
	}
	p := infoOf(r.Context())
	if !allows(t, p, r.Method) {
		s.fail(w, r, methodNotAllowed(t, p))
		return true
	}
	if s.kubelets == nil {
		s.fail(w, r, apierrors.NewServiceUnavailable("this API server has no connection to kubelets"))
		return true
	}
	if sub.Name != "log" && len(r.URL.Query()["dryRun"]) > 0 {
		s.fail(w, r, apierrors.NewBadRequest("dryRun is not supported"))
		return true
	}
	if err := s.serveConnect(w, r, t, sub, p); err != nil {
		s.fail(w, r, err)
	}
	return true
}

// serveConnect returns errors that come before the connection; later ones are answered by whoever meets them.
func (s *Server) serveConnect(w http.ResponseWriter, r *http.Request, t *rest.Target, sub *kinds.Subresource, p *parsed) error {
	q := r.URL.Query()
	if err := s.authorizeUpgrade(r, p); err != nil {
		return err
	}
	options, err := connectOptions(t.GVR.Resource, sub.Name, q, p)
	if err != nil {
		return err
	}
	if sub.Name != "log" {
		c := &rest.Call{Verb: "connect", Target: t, Subresource: sub.Name, Namespace: p.Namespace, Name: p.Name}
		if err := s.engine.AdmitConnect(r.Context(), c, options); err != nil {
			return err
		}
	}
	if sub.Name == "proxy" {
		s.kubelets.HTTP(w, r, proxy.HTTPRequest{Resource: t.GVR.Resource, Namespace: p.Namespace, ID: p.Name, Path: p.rest}, s.fail)
		return nil
	}
	pod, err := s.kubelets.Pod(r.Context(), p.Namespace, p.Name)
	if err != nil {
		return err
	}
	if sub.Name == "log" {
		return s.serveLog(w, r, pod, options.(*corev1.PodLogOptions))
	}
	return s.serveStream(w, r, pod, sub.Name, options)
}

// authorizeUpgrade asks for create where a client opens a stream by GET, as WebSocket clients must.
func (s *Server) authorizeUpgrade(r *http.Request, p *parsed) error {
	if p.Verb != "get" || !slices.Contains([]string{"exec", "attach", "portforward"}, p.Subresource) || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return nil
	}
	a := attributesOf(request.From(r.Context()))
	a.Verb = "create"
	return s.authorize(r.Context(), a)
}

// serveStream connects exec, attach and port-forward to the pod's kubelet.
func (s *Server) serveStream(w http.ResponseWriter, r *http.Request, pod *corev1.Pod, name string, options runtime.Object) error {
	if name == "portforward" {
		location, err := s.kubeletURL(r.Context(), pod, "/portForward/"+pod.Namespace+"/"+pod.Name, portQuery(options.(*corev1.PodPortForwardOptions)))
		if err != nil {
			return err
		}
		s.kubelets.PortForward(w, r, location, s.fail)
		return nil
	}
	var container string
	var streams proxy.Streams
	query := url.Values{}
	switch o := options.(type) {
	case *corev1.PodExecOptions:
		container, streams = o.Container, proxy.Streams{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, TTY: o.TTY}
		query["command"] = o.Command
	case *corev1.PodAttachOptions:
		container, streams = o.Container, proxy.Streams{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, TTY: o.TTY}
	}
	container, err := proxy.Container(pod, container)
	if err != nil {
		return err
	}
	for key, on := range map[string]bool{"input": streams.Stdin, "output": streams.Stdout, "error": streams.Stderr, "tty": streams.TTY} {
		if on {
			query.Set(key, "1")
		}
	}
	path := "/" + name + "/" + pod.Namespace + "/" + pod.Name + "/" + container
	location, err := s.kubeletURL(r.Context(), pod, path, query)
	if err != nil {
		return err
	}
	s.kubelets.Exec(w, r, location, streams, s.fail)
	return nil
}

// kubeletURL is an address at the kubelet of a pod, which must have a node. A node that is not there is reported as upstream does: as a missing
// pod of its name.
func (s *Server) kubeletURL(ctx context.Context, pod *corev1.Pod, path string, query url.Values) (*url.URL, error) {
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	location, err := s.kubelets.URL(ctx, pod.Spec.NodeName, path, query)
	if apierrors.IsNotFound(err) {
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), pod.Spec.NodeName)
	}
	return location, err
}

func portQuery(o *corev1.PodPortForwardOptions) url.Values {
	q := url.Values{}
	for _, p := range o.Ports {
		q.Add("port", strconv.Itoa(int(p)))
	}
	return q
}

func (s *Server) serveLog(w http.ResponseWriter, r *http.Request, pod *corev1.Pod, o *corev1.PodLogOptions) error {
	container, err := proxy.Container(pod, o.Container)
	if err != nil {
		return err
	}
	req := proxy.LogRequest{Follow: o.Follow, Insecure: o.InsecureSkipTLSVerifyBackend, Name: pod.Name}
	if pod.Spec.NodeName != "" {
		path := "/containerLogs/" + pod.Namespace + "/" + pod.Name + "/" + container
		if req.Location, err = s.kubeletURL(r.Context(), pod, path, logQuery(o)); err != nil {
			return err
		}
	}
	s.kubelets.Logs(w, r, req, s.fail)
	return nil
}

func logQuery(o *corev1.PodLogOptions) url.Values {
	q := url.Values{}
	for key, on := range map[string]bool{"follow": o.Follow, "previous": o.Previous, "timestamps": o.Timestamps} {
		if on {
			q.Set(key, "true")
		}
	}
	for key, v := range map[string]*int64{"sinceSeconds": o.SinceSeconds, "tailLines": o.TailLines, "limitBytes": o.LimitBytes} {
		if v != nil {
			q.Set(key, strconv.FormatInt(*v, 10))
		}
	}
	if o.SinceTime != nil {
		q.Set("sinceTime", o.SinceTime.Format(time.RFC3339))
	}
	return q
}

// connectOptions reads the query of a connect request.
func connectOptions(resource, sub string, q url.Values, p *parsed) (runtime.Object, error) {
	flag := func(name string) bool { v, set := q[name]; return set && truthy(v[0]) }
	switch sub {
	case "exec":
		return &corev1.PodExecOptions{
			Stdin: flag("stdin"), Stdout: flag("stdout"), Stderr: flag("stderr"), TTY: flag("tty"), Container: q.Get("container"), Command: q["command"],
		}, nil
	case "attach":
		return &corev1.PodAttachOptions{
			Stdin: flag("stdin"), Stdout: flag("stdout"), Stderr: flag("stderr"), TTY: flag("tty"), Container: q.Get("container"),
		}, nil
	case "portforward":
		o := &corev1.PodPortForwardOptions{}
		for _, text := range q["ports"] {
			for part := range strings.SplitSeq(text, ",") {
				n, err := strconv.ParseInt(part, 10, 32)
				if err != nil {
					return nil, apierrors.NewBadRequest(err.Error())
				}
				o.Ports = append(o.Ports, int32(n))
			}
		}
		return o, nil
	case "log":
		return logOptions(q, p.Name)
	}
	switch resource {
	case "pods":
		return &corev1.PodProxyOptions{Path: p.rest}, nil
	case "services":
		return &corev1.ServiceProxyOptions{Path: p.rest}, nil
	default:
		return &corev1.NodeProxyOptions{Path: p.rest}, nil
	}
}

// logOptions reads and judges the options of a request for the log of the pod with that name.
func logOptions(q url.Values, name string) (*corev1.PodLogOptions, error) {
	flag := func(name string) bool { v, set := q[name]; return set && truthy(v[0]) }
	o := &corev1.PodLogOptions{
		Container: q.Get("container"), Follow: flag("follow"), Previous: flag("previous"), Timestamps: flag("timestamps"),
		InsecureSkipTLSVerifyBackend: flag("insecureSkipTLSVerifyBackend"),
	}
	for name, to := range map[string]**int64{"sinceSeconds": &o.SinceSeconds, "tailLines": &o.TailLines, "limitBytes": &o.LimitBytes} {
		if text := q.Get(name); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return nil, apierrors.NewBadRequest(err.Error())
			}
			*to = &n
		}
	}
	if text := q.Get("sinceTime"); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		since := metav1.NewTime(at)
		o.SinceTime = &since
	}
	if q.Has("stream") {
		text := q.Get("stream")
		o.Stream = &text
	}
	if errs := validateLog(o); len(errs) > 0 {
		return nil, apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("PodLogOptions").GroupKind(), name, errs)
	}
	return o, nil
}

func validateLog(o *corev1.PodLogOptions) field.ErrorList {
	var errs field.ErrorList
	if o.TailLines != nil && *o.TailLines < 0 {
		errs = append(errs, field.Invalid(field.NewPath("tailLines"), *o.TailLines, "must be greater than or equal to 0"))
	}
	if o.LimitBytes != nil && *o.LimitBytes < 1 {
		errs = append(errs, field.Invalid(field.NewPath("limitBytes"), *o.LimitBytes, "must be greater than 0"))
	}
	switch {
	case o.SinceSeconds != nil && o.SinceTime != nil:
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	case o.SinceSeconds != nil && *o.SinceSeconds < 1:
		errs = append(errs, field.Invalid(field.NewPath("sinceSeconds"), *o.SinceSeconds, "must be greater than 0"))
	}
	if o.Stream != nil { // Output and errors apart are behind a feature gate that is off.
		errs = append(errs, field.Forbidden(field.NewPath("stream"), "may not be specified"))
	}
	return errs
}
