// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
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
	return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, choose one of: %v", pod.Name, containerNames(pod)))
}

func containerNames(pod *corev1.Pod) []string {
	var out []string
	for _, c := range pod.Spec.InitContainers {
		out = append(out, c.Name)
	}
	for _, c := range pod.Spec.Containers {
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
	if !global(net.ParseIP(ip)) {
		return nil, errAddress
	}
	return k.plainTarget(scheme, ip, port), nil
}

// errAddress refuses to pass a request on to where only this server should get: statuses of pods and nodes are written by others.
var errAddress = apierrors.NewBadRequest("address not allowed")

// global tells addresses of machines and pods from loopback, link-local, multicast and none.
func global(ip net.IP) bool { return ip != nil && ip.IsGlobalUnicast() }

// globalHost checks all addresses of a host.
func globalHost(ctx context.Context, host string) error {
	all, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if len(all) == 0 || slices.ContainsFunc(all, func(a net.IPAddr) bool { return !global(a.IP) }) {
		return errAddress
	}
	return nil
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
	if err := globalHost(ctx, host); err != nil {
		return nil, err
	}
	if port == "" || port == kubelet {
		return &target{url: &url.URL{Scheme: "https", Host: net.JoinHostPort(host, kubelet)}, transport: k.transport}, nil
	}
	return k.plainTarget(scheme, host, port), nil
}

// serviceTarget picks an endpoint of a Service by [scheme:]name[:port]; the port is a port's name or number. It looks at Endpoints, as upstream,
// and goes to pods of the namespace only: whoever may write endpoints could name any address.
func (k *Kubelets) serviceTarget(ctx context.Context, namespace, id string) (*target, error) {
	scheme, name, port, ok := splitName(id)
	if !ok {
		return nil, badName("service", id)
	}
	if number, err := strconv.ParseInt(port, 10, 64); err == nil {
		if port, err = k.portName(ctx, namespace, name, number); err != nil {
			return nil, err
		}
	}
	obj, err := k.cfg.Reader.GetFresh(ctx, endpoints, namespace, name)
	if err != nil {
		return nil, err
	}
	eps, found := obj.(*corev1.Endpoints)
	switch {
	case !found || eps == nil:
		return nil, apierrors.NewNotFound(services, name)
	case len(eps.Subsets) == 0:
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
	}
	candidates := candidates(eps, port)
	rand.Shuffle(len(candidates), func(i, j int) { candidates[i], candidates[j] = candidates[j], candidates[i] }) // Spreads load.
	for _, c := range candidates {
		if k.ofPod(ctx, namespace, &c.EndpointAddress) {
			return &target{url: &url.URL{Scheme: cmp.Or(scheme, "http"), Host: net.JoinHostPort(c.IP, strconv.Itoa(int(c.port)))}, transport: k.plain}, nil
		}
	}
	return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", id))
}

// portName returns the name of a Service's port of that number.
func (k *Kubelets) portName(ctx context.Context, namespace, name string, number int64) (string, error) {
	obj, err := k.cfg.Reader.GetFresh(ctx, services, namespace, name)
	if err != nil {
		return "", err
	}
	svc, found := obj.(*corev1.Service)
	if !found || svc == nil {
		return "", apierrors.NewNotFound(services, name)
	}
	for _, p := range svc.Spec.Ports {
		if int64(p.Port) == number {
			return p.Name, nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", number, name))
}

// candidate is a ready endpoint with a port.
type candidate struct {
	corev1.EndpointAddress
	port int32
}

func candidates(eps *corev1.Endpoints, portName string) []candidate {
	var out []candidate
	for _, subset := range eps.Subsets {
		for _, p := range subset.Ports {
			if p.Name != portName {
				continue
			}
			for _, a := range subset.Addresses {
				out = append(out, candidate{a, p.Port})
			}
		}
	}
	return out
}

// ofPod reports whether an endpoint is what it says: the address of a pod of the namespace.
func (k *Kubelets) ofPod(ctx context.Context, namespace string, a *corev1.EndpointAddress) bool {
	if a.TargetRef == nil || a.TargetRef.Namespace != namespace {
		return false
	}
	pod, err := k.Pod(ctx, namespace, a.TargetRef.Name)
	return err == nil && slices.ContainsFunc(pod.Status.PodIPs, func(ip corev1.PodIP) bool { return ip.IP == a.IP })
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
