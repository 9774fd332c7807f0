// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	apiproxy "k8s.io/apimachinery/pkg/util/proxy"
)

// Pod returns a pod, or the error to answer with.
func (k *Kubelets) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	obj, err := k.cfg.Reader.GetFresh(ctx, pods, namespace, name)
	if err != nil {
		return nil, err
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod == nil {
		return nil, apierrors.NewNotFound(pods, name)
	}
	return pod, nil
}

// Container returns the container that a request means: the named one, or the only one.
func Container(pod *corev1.Pod, name string) (string, error) {
	if name != "" {
		if slices.Contains(containerNames(pod), name) {
			return name, nil
		}
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
	}
	switch len(pod.Spec.Containers) {
	case 1:
		return pod.Spec.Containers[0].Name, nil
	case 0:
		return "", apierrors.NewBadRequest("a container name must be specified for pod " + pod.Name)
	}
	var plain, inits []string
	for _, c := range pod.Spec.Containers {
		plain = append(plain, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		inits = append(inits, c.Name)
	}
	text := fmt.Sprintf("a container name must be specified for pod %s, choose one of: %v", pod.Name, plain)
	if len(inits) > 0 {
		text += fmt.Sprintf(" or one of the init containers: %v", inits)
	}
	return "", apierrors.NewBadRequest(text)
}

func containerNames(pod *corev1.Pod) []string {
	var out []string
	for _, c := range pod.Spec.Containers {
		out = append(out, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		out = append(out, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		out = append(out, c.Name)
	}
	return out
}

// target is a proxied server: where it is and how it is reached.
type target struct {
	url       *url.URL
	transport http.RoundTripper
}

// splitName takes scheme and port off a name: "https:web:443". Two colons around an empty part are allowed.
func splitName(id string) (scheme, name, port string, ok bool) {
	return utilnet.SplitSchemeNamePort(id)
}

func badName(kind, id string) error {
	return apierrors.NewBadRequest(fmt.Sprintf("invalid %s request %q", kind, id))
}

// podTarget finds a pod by [scheme:]name[:port].
func (k *Kubelets) podTarget(ctx context.Context, namespace, id string) (*target, error) {
	scheme, name, port, ok := splitName(id)
	if !ok {
		return nil, badName("pod", id)
	}
	pod, err := k.Pod(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	if port == "" {
		for _, c := range pod.Spec.Containers {
			if len(c.Ports) > 0 {
				port = strconv.Itoa(int(c.Ports[0].ContainerPort))
				break
			}
		}
	}
	ip := pod.Status.PodIP
	if len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	if ip == "" {
		return nil, apierrors.NewBadRequest("address not allowed")
	}
	return k.plainTarget(scheme, ip, port), nil
}

func (k *Kubelets) plainTarget(scheme, host, port string) *target {
	u := &url.URL{Scheme: scheme, Host: host}
	if port != "" {
		u.Host = net.JoinHostPort(host, port)
	} else if strings.Contains(host, ":") {
		u.Host = "[" + host + "]"
	}
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	return &target{url: u, transport: k.plain}
}

// nodeTarget finds a node by [scheme:]name[:port]; its kubelet is reached with the server's own certificate.
func (k *Kubelets) nodeTarget(ctx context.Context, id string) (*target, error) {
	scheme, name, port, ok := splitName(id)
	if !ok {
		return nil, badName("node", id)
	}
	host, kubelet, err := k.Address(ctx, name)
	if err != nil {
		return nil, err
	}
	if port == "" || port == kubelet {
		return &target{url: &url.URL{Scheme: "https", Host: net.JoinHostPort(host, kubelet)}, transport: k.transport}, nil
	}
	return k.plainTarget(scheme, host, port), nil
}

// serviceTarget picks a ready endpoint of a Service by [scheme:]name[:port]; the port is a port's name or number.
func (k *Kubelets) serviceTarget(ctx context.Context, namespace, id string) (*target, error) {
	scheme, name, port, ok := splitName(id)
	if !ok {
		return nil, badName("service", id)
	}
	obj, err := k.cfg.Reader.GetFresh(ctx, services, namespace, name)
	if err != nil {
		return nil, err
	}
	svc, found := obj.(*corev1.Service)
	if !found || svc == nil {
		return nil, apierrors.NewNotFound(services, name)
	}
	portName, err := servicePort(svc, port)
	if err != nil {
		return nil, err
	}
	all, err := k.cfg.Reader.List(ctx, endpointSlices, namespace)
	if err != nil {
		return nil, err
	}
	var addresses []string
	for _, obj := range all {
		slice, ok := obj.(*discoveryv1.EndpointSlice)
		if ok && slice.Labels[discoveryv1.LabelServiceName] == name {
			addresses = append(addresses, readyAddresses(slice, portName)...)
		}
	}
	if len(addresses) == 0 {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", id))
	}
	pick := addresses[rand.IntN(len(addresses))] // Spreads load.
	u := &url.URL{Scheme: scheme, Host: pick}
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	return &target{url: u, transport: k.plain}, nil
}

// servicePort returns the name of the port that a request means.
func servicePort(svc *corev1.Service, port string) (string, error) {
	if port == "" {
		if len(svc.Spec.Ports) == 1 {
			return svc.Spec.Ports[0].Name, nil
		}
		return "", nil
	}
	if n, err := strconv.Atoi(port); err == nil {
		for _, p := range svc.Spec.Ports {
			if int(p.Port) == n {
				return p.Name, nil
			}
		}
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", n, svc.Name))
	}
	return port, nil
}

func readyAddresses(slice *discoveryv1.EndpointSlice, portName string) []string {
	var out []string
	for _, p := range slice.Ports {
		if p.Port == nil || p.Name != nil && *p.Name != portName || p.Name == nil && portName != "" {
			continue
		}
		for _, ep := range slice.Endpoints {
			if ep.Conditions.Ready != nil && !*ep.Conditions.Ready {
				continue
			}
			for _, a := range ep.Addresses {
				out = append(out, net.JoinHostPort(a, strconv.Itoa(int(*p.Port))))
			}
		}
	}
	return out
}

// HTTPRequest is a request to pass on through a proxy subresource.
type HTTPRequest struct {
	// Resource is pods, services or nodes.
	Resource, Namespace string
	// ID is [scheme:]name[:port].
	ID string
	// Path below the target, with its leading slash.
	Path string
}

// HTTP passes a request on, upgrades included, and rewrites addresses in answers so that they lead back through the proxy.
func (k *Kubelets) HTTP(w http.ResponseWriter, r *http.Request, req HTTPRequest, fail Responder) {
	var t *target
	var err error
	switch req.Resource {
	case "pods":
		t, err = k.podTarget(r.Context(), req.Namespace, req.ID)
	case "services":
		t, err = k.serviceTarget(r.Context(), req.Namespace, req.ID)
	default:
		t, err = k.nodeTarget(r.Context(), req.ID)
	}
	if err != nil {
		fail(w, r, err)
		return
	}
	t.url.Path = utilnet.JoinPreservingTrailingSlash(t.url.Path, req.Path)
	r.Header.Del("Authorization")
	apiproxy.NewUpgradeAwareHandler(t.url, t.transport, true, false, fail).ServeHTTP(w, r)
}
